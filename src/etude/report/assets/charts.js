/* Draws the charts of the page with vega-embed, from the specs that stand in it as data, and saves them as files. */
"use strict";
(() => {
  const theme = JSON.parse(document.getElementById("report-theme").textContent);

  /* A legend in one row would squeeze a chart on a phone, so it is broken into columns that fit. */
  function themed(width) {
    return { ...theme, legend: { ...theme.legend, columns: Math.max(1, Math.min(4, Math.floor(width / 170))) } };
  }

  function download(name, href) {
    const link = document.createElement("a");
    link.download = name;
    link.href = href;
    link.click();
  }

  function rowsOf(spec) {
    const sets = Object.values(spec.datasets || {});
    if (spec.data && spec.data.values) sets.push(spec.data.values);
    return sets.reduce((longest, set) => (set.length > longest.length ? set : longest), []);
  }

  function csv(rows) {
    const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
    const cell = (value) => (/[",\n]/.test(value) ? '"' + value.replaceAll('"', '""') + '"' : value);
    const line = (row) => columns.map((column) => cell(String(row[column] ?? ""))).join(",");
    return [columns.join(","), ...rows.map(line)].join("\n") + "\n";
  }

  async function address(kind, view, spec) {
    if (kind === "csv") return "data:text/csv;charset=utf-8," + encodeURIComponent(csv(rowsOf(spec)));
    if (kind === "svg") return "data:image/svg+xml;charset=utf-8," + encodeURIComponent(await view.toSVG());
    return view.toImageURL("png", 2);
  }

  async function draw(figure) {
    const spec = JSON.parse(figure.querySelector('script[type="application/json"]').textContent);
    const frame = figure.querySelector('[data-role="chart"]');
    /* ast: expressions are interpreted, since the page's policy forbids making functions out of text. */
    const options = { mode: "vega-lite", renderer: "svg", actions: false, ast: true, config: themed(frame.clientWidth) };
    try {
      const { view } = await vegaEmbed(frame, spec, options);
      for (const button of figure.querySelectorAll("[data-save]")) {
        const kind = button.dataset.save;
        button.hidden = false;
        button.addEventListener("click", async () => download(`${figure.id}.${kind}`, await address(kind, view, spec)));
      }
      figure.dataset.drawn = "true";
    } catch (error) {
      frame.textContent = "This chart could not be drawn: " + error.message;
    }
  }

  document.querySelectorAll('[data-block="chart"]').forEach(draw);
})();
