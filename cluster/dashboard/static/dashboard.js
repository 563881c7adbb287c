// Durations grow in the browser, by the server's clock, so that the server sends what happens and not that time passes.
"use strict";
const offset = Number(document.body.dataset.now) * 1000 - Date.now();

function tick() {
  const now = (Date.now() + offset) / 1000;
  for (const time of document.querySelectorAll("time[data-since]")) {
    const seconds = Math.max(0, Math.floor(now - Number(time.dataset.since)));
    time.textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  }
}

tick();
setInterval(tick, 1000);
document.body.addEventListener("htmx:sseMessage", tick);
document.body.addEventListener("htmx:afterSwap", tick);
document.body.addEventListener("htmx:sseOpen", () => document.body.classList.remove("offline"));
document.body.addEventListener("htmx:sseError", () => document.body.classList.add("offline"));

// A newer row may take its place between the press and the release; the browser then sees no click.
let pressed = null;
document.addEventListener("pointerdown", (event) => {
  pressed = event.button === 0 ? event.target.closest("#calls a") : null;
});
document.addEventListener("pointerup", (event) => {
  const released = event.target.closest("#calls a");
  if (pressed && !pressed.isConnected && released?.href === pressed.href) location.assign(released.href);
});
