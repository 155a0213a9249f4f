// Two things that HTML alone does not do: follow a Skill while it is made, and show an answer without a new page.
"use strict";

const POLL_MILLISECONDS = 2000;
const MAX_POLLS = 900; // half an hour; then the page says so and stops
const MAX_FAILURES = 3;

const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

function isBusy() {
  const field = document.activeElement;
  const typing = field && ["INPUT", "TEXTAREA", "SELECT"].includes(field.tagName);
  return typing || document.querySelector("form[data-changed]") !== null;
}

async function follow() {
  let section = document.getElementById("progress");
  if (!section || section.dataset.settled === "yes") return;
  let tag = "";
  let failures = 0;
  for (let polls = 0; polls < MAX_POLLS && failures < MAX_FAILURES; polls += 1) {
    await wait(POLL_MILLISECONDS);
    if (document.hidden) continue;
    let response;
    try {
      const headers = { "X-Skill-Fragment": "1", ...(tag ? { "If-None-Match": tag } : {}) };
      response = await fetch(section.dataset.url, { headers, cache: "no-store", redirect: "error" });
    } catch {
      failures += 1;
      continue;
    }
    if (response.status === 304) continue;
    if (!response.ok) {
      failures += 1;
      continue;
    }
    failures = 0;
    tag = response.headers.get("ETag") || "";
    const holder = document.createElement("template");
    holder.innerHTML = await response.text();
    const next = holder.content.getElementById("progress");
    if (!next || next.dataset.version === section.dataset.version) continue;
    if (!isBusy()) {
      location.reload(); // what else is on the page has changed, too
      return;
    }
    section.replaceWith(next);
    section = next;
    if (section.dataset.settled === "yes") {
      offerReload(section);
      return;
    }
  }
  offerReload(section);
}

function offerReload(section) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "plain";
  button.textContent = "Load the page again";
  button.addEventListener("click", () => location.reload());
  section.append(button);
}

function showText(place, text) {
  const line = document.createElement("p");
  line.className = "soft hint";
  line.textContent = text;
  place.replaceChildren(line);
}

async function call(form) {
  const place = document.getElementById("outcome");
  const button = form.querySelector("button[type=submit]");
  const started = performance.now();
  button.disabled = true;
  showText(place, "Calling …");
  const clock = setInterval(() => {
    showText(place, `Calling … ${Math.round((performance.now() - started) / 1000)} s`);
  }, 1000);
  try {
    const response = await fetch(form.action, {
      method: "POST",
      headers: { "X-Skill-Fragment": "1" },
      body: new URLSearchParams(new FormData(form)),
      redirect: "error",
    });
    const html = await response.text();
    clearInterval(clock);
    const holder = document.createElement("template");
    holder.innerHTML = html;
    place.replaceChildren(holder.content);
    delete form.dataset.changed;
    place.querySelector(".outcome")?.scrollIntoView({ block: "nearest" });
  } catch {
    showText(place, "The gateway did not answer. Load the page again, and sign in where it asks you to.");
  } finally {
    clearInterval(clock);
    button.disabled = false;
  }
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.matches("form[data-call]")) return;
  event.preventDefault();
  call(form);
});
document.addEventListener("input", (event) => {
  const form = event.target.closest("form[data-call], form.stack");
  if (form) form.dataset.changed = "";
});
follow();
