import assert from "node:assert/strict";
import { test } from "node:test";

import { ballAt } from "../pages/testpicture.js";

test("the ball moves, and never leaves the field", () => {
  const field = { width: 640, height: 288, radius: 34 };
  let before = ballAt(0, field);
  for (let seconds = 0.07; seconds < 20; seconds += 0.07) {
    const ball = ballAt(seconds, field);
    assert.ok(ball.x >= 34 && ball.x <= 606 && ball.y >= 34 && ball.y <= 254, JSON.stringify(ball));
    assert.notDeepEqual(ball, before);
    before = ball;
  }
});
