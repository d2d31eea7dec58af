"use strict";
(() => {
  const at = (id) => document.getElementById(id);
  const { of, pairs } = JSON.parse(at("data").textContent);
  const kept = `choices of ${of}`;
  let choices = {};
  let now = 0;

  // Some browsers keep nothing for a page from the disk; then the choices last as long as the page is open.
  try {
    choices = JSON.parse(localStorage.getItem(kept)) || {};
  } catch {
    choices = {};
  }
  const firstOpen = pairs.findIndex((_, n) => !(n + 1 in choices));
  now = firstOpen < 0 ? pairs.length - 1 : firstOpen;

  function show() {
    const pair = pairs[now];
    at("turns").replaceChildren(
      ...pair.turns.map((text, n) => {
        const item = document.createElement("li");
        item.className = n % 2 ? "model" : "user";
        item.dir = "auto";
        item.textContent = text;
        return item;
      }),
    );
    for (const side of ["A", "B"]) {
      at(`reply-${side}`).textContent = pair[side] || "(says nothing)";
    }
    for (const button of document.querySelectorAll("[data-choice]")) {
      button.setAttribute("aria-pressed", String(choices[now + 1] === button.dataset.choice));
    }
    const done = Object.keys(choices).length;
    at("progress").textContent = `Pair ${now + 1} of ${pairs.length}; ${done} judged${done === pairs.length ? ": done" : ""}`;
    at("bar").max = pairs.length;
    at("bar").value = done;
    at("back").disabled = now === 0;
    at("on").disabled = now === pairs.length - 1;
    const text = JSON.stringify({ pairs: of, choices }, null, 1);
    at("choices").value = text;
    if (at("download").href) {
      URL.revokeObjectURL(at("download").href);
    }
    at("download").href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  }

  function go(step) {
    now = Math.min(Math.max(now + step, 0), pairs.length - 1);
    show();
  }

  function choose(choice) {
    choices[now + 1] = choice;
    try {
      localStorage.setItem(kept, JSON.stringify(choices));
    } catch {
      // as above
    }
    go(1);
  }

  for (const button of document.querySelectorAll("[data-choice]")) {
    button.addEventListener("click", () => choose(button.dataset.choice));
  }
  at("back").addEventListener("click", () => go(-1));
  at("on").addEventListener("click", () => go(1));
  at("copy").addEventListener("click", () => {
    at("choices").select();
    document.execCommand("copy");
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target === at("choices")) {
      return;
    }
    const key = event.key.toLowerCase();
    if (key === "a" || key === "b") {
      choose(key.toUpperCase());
    } else if (key === "t") {
      choose("tie");
    } else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      go(event.key === "ArrowLeft" ? -1 : 1);
    }
  });
  show();
})();
