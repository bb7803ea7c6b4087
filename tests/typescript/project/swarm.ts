/** Files that are shared in a room. */

import { Swarm } from "@switchboard/client/swarm";
import type { Download, Share } from "@switchboard/client/swarm";
import type { Room } from "@switchboard/client";

export async function share(room: Room, file: File): Promise<Blob> {
  const swarm = new Swarm(room, { cacheBytesMax: 1024, cache: "memory" });
  const { id, size, pieces }: Share = await swarm.share(file);
  console.log(id.length, size + pieces, swarm.shares.get(id)?.name?.length);
  swarm.addEventListener("share", ({ detail }) => console.log(detail.id.length, detail.type.length));
  swarm.addEventListener("refused", ({ detail: { piece, from } }) => console.log(piece.toFixed(), from.length));

  const download: Download = swarm.fetch(id, { signal: AbortSignal.timeout(1000) });
  download.addEventListener("progress", ({ detail: { received, total } }) => console.log(received / total));
  const piece: string | undefined = download.pieces[0];
  let bytes = 0;
  for await (const chunk of download.stream()) bytes += chunk.byteLength;
  console.log(piece, bytes);

  // @ts-expect-error: a room, and not its name
  new Swarm("lobby");
  // @ts-expect-error: no such cache
  new Swarm(room, { cache: "disk" });
  // @ts-expect-error: files, not paths
  await swarm.share("/tmp/file");
  // @ts-expect-error: there is no such event
  download.addEventListener("done", () => {});
  // @ts-expect-error: a blob has to be waited for
  console.log(download.blob().size);
  swarm.close();
  return download.blob();
}
