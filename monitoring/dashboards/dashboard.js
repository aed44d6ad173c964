// The dashboard's parts anew every few seconds, unless it is paused, hidden, or somebody is among them.
const parts = document.getElementById("parts");
const pause = document.getElementById("pause");
const state = document.getElementById("state");
const seconds = Number(parts.dataset.seconds);
let paused = false;

pause.addEventListener("click", () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", String(paused));
  pause.textContent = paused ? "Go on" : "Pause";
  state.textContent = paused ? "paused" : `new every ${seconds} s`;
});

async function renew() {
  if (paused || document.hidden || parts.contains(document.activeElement)) return;
  try {
    const answer = await fetch("/parts");
    if (!answer.ok) throw new Error(String(answer.status));
    const opened = [...parts.querySelectorAll("details[open]")].map((each) => each.id);
    parts.innerHTML = await answer.text();
    for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
    if (!paused) state.textContent = `new every ${seconds} s`;
  } catch {
    state.textContent = "lifecycle dashboard does not answer: start it again";
  }
}

setInterval(renew, seconds * 1000);
