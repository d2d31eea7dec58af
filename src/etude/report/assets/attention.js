/* The interactive attention views of the page: choose a layer and head, then a token. Several views may stand in it. */
"use strict";
(() => {
  /* Returns the weights as bytes, one [T, T] block a head, query by query: the byte is `levels` times the square root.
     They come with all heads' rows of one query together. */
  async function unpack(data) {
    const letters = atob(data.bytes), raw = new Uint8Array(letters.length);
    for (let i = 0; i < letters.length; i++) raw[i] = letters.charCodeAt(i);
    const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"));
    const kept = new Uint8Array(await new Response(stream).arrayBuffer());
    const side = data.side, heads = data.layers * data.heads, full = new Uint8Array(heads * side * side);
    for (let query = 0, from = 0; query < side; query++) {
      const keys = data.causal ? query + 1 : side;
      for (let head = 0; head < heads; head++, from += keys)
        full.set(kept.subarray(from, from + keys), (head * side + query) * side);
    }
    return full;
  }

  const named = (token) => "“" + token.replaceAll("\n", "⏎").replaceAll("\t", "⇥") + "”";

  class View {
    constructor(figure, data, bytes) {
      Object.assign(this, { figure, data, bytes, head: 0, mode: "to", pinned: data.side - 1, hovered: null });
      this.heads = [...figure.querySelectorAll("[data-head]")];
      this.tokens = [...figure.querySelectorAll("[data-token]")];
      this.modes = [...figure.querySelectorAll("[data-mode]")];
      this.canvas = figure.querySelector('[data-role="pattern"]');
      this.band = figure.querySelector(".band");
      this.status = figure.querySelector('[data-role="attention-status"]');
      this.weight = Float64Array.from({ length: data.levels + 1 }, (_, byte) => (byte / data.levels) ** 2);
      this.listen();
      this.paint();
      this.reveal();
    }

    /* The weights of one token: of the keys it attends to, or of the queries that attend to it. */
    weights(token) {
      const side = this.data.side, start = this.head * side * side;
      return Array.from({ length: side }, (_, other) =>
        this.weight[this.bytes[start + (this.mode === "to" ? token * side + other : other * side + token)]]);
    }

    paint() {
      const colour = getComputedStyle(this.figure).getPropertyValue("--heat").trim();
      const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
      this.ink = (blue << 16) | (green << 8) | red;
      this.heads.forEach((button, head) => this.draw(button.querySelector("canvas"), this.coarse(head)));
      this.drawn = null;
      this.show();
    }

    /* One head's weights, query by query. */
    pattern(head) {
      const size = this.data.side ** 2;
      return Float64Array.from(this.bytes.subarray(head * size, (head + 1) * size), (byte) => this.weight[byte]);
    }

    /* The same between runs of tokens: what the queries of one give, on average, to all keys of another. */
    coarse(head) {
      const { side, run } = this.data, cells = Math.ceil(side / run), sums = new Float64Array(cells * cells);
      for (let query = 0, at = head * side * side; query < side; query++) {
        const row = Math.floor(query / run), queries = Math.min(run, side - row * run);
        for (let key = 0; key < side; key++, at++)
          sums[row * cells + Math.floor(key / run)] += this.weight[this.bytes[at]] / queries;
      }
      return sums;
    }

    /* Opacity is the square root, so that small weights can be seen. */
    draw(canvas, weights) {
      const side = canvas.width = canvas.height = Math.sqrt(weights.length);
      const context = canvas.getContext("2d"), image = context.createImageData(side, side);
      const pixels = new Uint32Array(image.data.buffer);
      for (let i = 0; i < pixels.length; i++)
        pixels[i] = this.ink | (Math.round(255 * Math.sqrt(Math.min(1, weights[i]))) << 24);
      context.putImageData(image, 0, 0);
    }

    show() {
      const token = this.hovered ?? this.pinned, side = this.data.side, weights = this.weights(token);
      this.heads.forEach((button, head) => {
        button.setAttribute("aria-checked", head === this.head);
        button.tabIndex = head === this.head ? 0 : -1;
      });
      this.modes.forEach((button) => button.setAttribute("aria-pressed", button.dataset.mode === this.mode));
      this.figure.querySelector(".tokens").classList.toggle("by", this.mode === "by");
      this.tokens.forEach((button, other) => {
        button.style.setProperty("--weight", weights[other].toFixed(3));
        button.dataset.weight = weights[other].toFixed(3);
        button.classList.toggle("chosen", other === token);
        button.tabIndex = other === this.pinned ? 0 : -1;
        button.querySelector("small").textContent = weights[other] >= 0.01 ? weights[other].toFixed(2).replace(/^0/, "") : "";
      });
      if (this.drawn !== this.head) this.draw(this.canvas, this.pattern(this.head));
      this.drawn = this.head;
      const [start, size] = [(100 * token) / side + "%", 100 / side + "%"];
      Object.assign(this.band.style, this.mode === "to"
        ? { left: 0, width: "100%", top: start, height: size } : { top: 0, height: "100%", left: start, width: size });
      this.status.textContent = this.told(token, weights);
    }

    told(token, weights) {
      const layer = this.data.names[Math.floor(this.head / this.data.heads)], head = this.head % this.data.heads;
      const order = weights.map((w, i) => [w, i]).filter(([w]) => w >= 0.005).sort((a, b) => b[0] - a[0]);
      const most = order.slice(0, 5).map(([w, i]) => `${named(this.data.tokens[i])} ${i}: ${w.toFixed(2)}`).join(", ");
      const verb = this.mode === "to" ? "attends to" : "is attended by";
      return `${layer} H${head} · ${named(this.data.tokens[token])} ${token} ${verb} ${most || "nothing above 0.005"}`;
    }

    choose(head, focus) {
      this.head = Math.max(0, Math.min(this.heads.length - 1, head));
      this.show();
      if (focus) this.heads[this.head].focus();
    }

    pin(token, focus) {
      this.pinned = Math.max(0, Math.min(this.data.side - 1, token));
      this.hovered = null;
      this.show();
      this.reveal();
      if (focus) this.tokens[this.pinned].focus();
    }

    /* Scrolls the list of tokens, and nothing else of the page, to the chosen one. */
    reveal() {
      const list = this.figure.querySelector(".tokens"), box = list.getBoundingClientRect();
      const token = this.tokens[this.pinned].getBoundingClientRect();
      list.scrollTop += Math.min(0, token.top - box.top - 2) + Math.max(0, token.bottom - box.bottom + 2);
    }

    hover(token) {
      if (token === this.hovered) return;
      this.hovered = token;
      this.show();
    }

    /* Tokens on a page are no regular grid, so the row above or below is found by where the tokens stand. */
    beside(token, down) {
      const here = this.tokens[token].getBoundingClientRect();
      const distance = (button) => {
        const there = button.getBoundingClientRect(), rows = (there.top - here.top) * (down ? 1 : -1);
        return rows > 2 ? rows * 100 + Math.abs(there.left - here.left) : Infinity;
      };
      const all = this.tokens.map(distance), least = Math.min(...all);
      return least === Infinity ? token : all.indexOf(least);
    }

    headKey(event) {
      const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.data.heads, ArrowUp: -this.data.heads }[event.key];
      const to = { Home: 0, End: this.heads.length - 1 }[event.key] ?? (step && this.head + step);
      if (to === undefined || to < 0 || to >= this.heads.length) return;
      event.preventDefault();
      this.choose(to, true);
    }

    tokenKey(event) {
      const at = this.pinned, last = this.data.side - 1;
      const to = { ArrowRight: () => at + 1, ArrowLeft: () => at - 1, Home: () => 0, End: () => last,
        ArrowDown: () => this.beside(at, true), ArrowUp: () => this.beside(at, false) }[event.key];
      if (!to) return;
      event.preventDefault();
      this.pin(to(), true);
    }

    under(event) {
      const box = this.canvas.getBoundingClientRect(), side = this.data.side;
      const share = this.mode === "to" ? (event.clientY - box.top) / box.height : (event.clientX - box.left) / box.width;
      return Math.max(0, Math.min(side - 1, Math.floor(share * side)));
    }

    listen() {
      this.heads.forEach((button, head) => button.addEventListener("click", () => this.choose(head)));
      this.modes.forEach((button) => button.addEventListener("click", () => { this.mode = button.dataset.mode; this.show(); }));
      this.tokens.forEach((button, token) => {
        button.addEventListener("pointerenter", () => this.hover(token));
        button.addEventListener("click", () => this.pin(token));
        button.addEventListener("focus", () => this.pin(token));
      });
      this.figure.querySelector(".heads").addEventListener("keydown", (event) => this.headKey(event));
      const list = this.figure.querySelector(".tokens");
      list.addEventListener("keydown", (event) => this.tokenKey(event));
      list.addEventListener("pointerleave", () => this.hover(null));
      this.canvas.addEventListener("pointermove", (event) => this.hover(this.under(event)));
      this.canvas.addEventListener("pointerleave", () => this.hover(null));
      this.canvas.addEventListener("click", (event) => this.pin(this.under(event)));
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.paint());
    }
  }

  async function start(figure) {
    const data = JSON.parse(figure.querySelector('script[type="application/json"]').textContent);
    try {
      figure.view = new View(figure, data, await unpack(data));
      figure.dataset.drawn = "true";
    } catch (error) {
      figure.querySelector('[data-role="attention-status"]').textContent = "This view could not be drawn: " + error.message;
    }
  }

  document.querySelectorAll('[data-block="attention"]').forEach(start);
})();
