import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  // What is built works under any path.
  base: "./",
  plugins: [react()],
  resolve: {
    // The client is a link to a folder that has a React of its own, for its tests. A copy of the package from a registry has none, and needs no such line.
    dedupe: ["react", "react-dom"],
  },
});
