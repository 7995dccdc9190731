"use strict";

// The theme: the browser's own, until somebody chooses; kept for this page where storage is allowed.
(() => {
  const theme = document.getElementById("theme");
  const apply = (value) => { document.documentElement.style.colorScheme = value; };
  let stored = null;
  try { stored = localStorage.getItem("rederive-theme"); } catch { /* not allowed: not kept */ }
  theme.hidden = false;
  for (const input of theme.elements) {
    if (input.value === stored) { input.checked = true; apply(stored); }
    input.addEventListener("change", () => {
      apply(input.value);
      try { localStorage.setItem("rederive-theme", input.value); } catch { /* as above */ }
    });
  }
})();

// Which section is being read.
(() => {
  const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
  const seen = new Set();
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const id = entry.target.getAttribute("aria-labelledby");
      if (entry.isIntersecting) seen.add(id); else seen.delete(id);
    }
    const first = [...links.keys()].find((id) => seen.has(id));
    for (const [id, link] of links) {
      if (id === first) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
    }
  }, { rootMargin: "-10% 0px -60% 0px" });
  for (const section of document.querySelectorAll("main > section")) observer.observe(section);
})();

// The samples. Whatever a model wrote is set as text, never as HTML.
(() => {
  const data = JSON.parse(document.getElementById("samples-data").textContent);
  const browser = document.getElementById("browser");
  if (!browser || !data.sources.length) return;
  const PAGE = 6;
  const names = Object.keys(data.weights);
  const get = (id) => document.getElementById(id);
  const [source, task, model, outcome, search] =
    ["source", "task", "model", "outcome", "search"].map(get);
  const [count, rows, more] = ["count", "rows", "more"].map(get);
  let found = [];
  let shown = 0;

  const make = (tag, text, kind) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (kind) element.className = kind;
    return element;
  };
  const fill = (select, options) => {
    select.replaceChildren(...options.map(([value, label]) => {
      const option = make("option", label);
      option.value = value;
      return option;
    }));
  };
  const unique = (values) => [...new Set(values)];
  const current = () => data.sources[Number(source.value)];
  // A response: [model, text, outcome, tokens, rewards, whether it is an answer alone].
  const responses = (problem) => problem[4].filter((r) => !model.value || r[0] === model.value);
  const isRight = (problem, name) => problem[4].some((r) => r[0] === name && r[2] === "right");

  const choose = () => {
    const { problems, models, pairs } = current();
    const all = problems.flatMap((problem) => problem[4]);
    fill(task, [["", "all"], ...unique(problems.map((p) => p[0])).map((name) => [name, name])]);
    const known = models.length ? models : unique(all.map((r) => r[0])).sort();
    fill(model, [["", "all"], ...known.map((name) => [name, name])]);
    fill(outcome, [
      ["", "any"],
      ...unique(all.map((r) => r[2])).sort().map((name) => [`=${name}`, name]),
      ...pairs.flatMap(([first, second]) => [
        [`+${first}/${second}`, `gained: ${second} right, ${first} not`],
        [`-${first}/${second}`, `lost: ${first} right, ${second} not`],
      ]),
    ]);
    model.previousElementSibling.textContent = models.length ? "Model" : "Trace";
  };

  const fits = (problem) => {
    if (task.value && problem[0] !== task.value) return false;
    const those = responses(problem);
    if (!those.length) return false;
    const wanted = outcome.value.slice(1);
    if (outcome.value.startsWith("=") && !those.some((r) => r[2] === wanted)) return false;
    if (outcome.value && !outcome.value.startsWith("=")) {
      const [first, second] = wanted.split("/");
      const [yes, no] = outcome.value.startsWith("+") ? [second, first] : [first, second];
      if (!isRight(problem, yes) || isRight(problem, no)) return false;
    }
    const words = search.value.trim().toLowerCase();
    if (!words) return true;
    return [problem[1], problem[2], problem[3], ...those.map((r) => r[1])]
      .some((text) => String(text ?? "").toLowerCase().includes(words));
  };

  // The thought in a softer colour, the answer in bold: both are read by screen readers as they are.
  const paint = (pre, text) => {
    const parts = text.split(/(<\/?think>|<\/?answer>)/);
    let inside = "";
    for (const part of parts) {
      if (part === "<think>") inside = "i";
      if (part === "<answer>") inside = "";
      if (part) pre.append(inside ? make(inside, part) : part);
      if (part === "<answer>") inside = "b";
      if (part === "</think>" || part === "</answer>") inside = "";
    }
  };

  const show = (number) => String(Math.round(number * 1000) / 1000);

  const draw = (response, id) => {
    const [name, text, result, tokens, values, isAnswer] = response;
    const box = make("div", undefined, "response");
    if (/^(right|kept|wrong)/.test(result)) box.classList.add(result.split(" ")[0]);
    const head = make("header");
    head.append(make("b", name), make("span", tokens === null ? result : `${result}, ${tokens} tokens`));
    const pre = make("pre");
    if (text) paint(pre, text); else pre.append(make("i", "(empty)"));
    if (text.length > 900) {
      pre.tabIndex = 0;
      pre.setAttribute("role", "region");
      pre.setAttribute("aria-label", `Response of ${name} to ${id}`);
    }
    box.append(head, pre);
    if (isAnswer) box.append(make("p", "The answer alone is kept: responses are long.", "meta"));
    if (values) {
      const list = make("dl");
      const total = names.reduce((sum, key, i) => sum + data.weights[key] * (values[i] ?? 0), 0);
      for (const [key, value] of [...names.map((key, i) => [key, values[i]]), ["reward", total]]) {
        const pair = make("div");
        pair.append(make("dt", key), make("dd", value === null ? "no verdict" : show(value)));
        list.append(pair);
      }
      box.append(list);
    }
    return box;
  };

  const extend = () => {
    const next = found.slice(shown, shown + PAGE);
    for (const problem of next) {
      const [name, id, question, answer] = problem;
      const article = make("article", undefined, "problem");
      const title = make("h3", question);
      article.append(title, make("p", `${name ? `${name}, ` : ""}${id}${answer ? `; reference answer ${answer}` : ""}`, "meta"));
      const list = make("div", undefined, "responses");
      list.append(...responses(problem).map((response) => draw(response, id)));
      article.append(list);
      rows.append(article);
    }
    shown += next.length;
    more.hidden = shown >= found.length;
    const all = current().problems.length;
    count.textContent = found.length
      ? `Showing ${shown} of ${found.length} problems that fit, of ${all}.`
      : `No problem of ${all} fits. Choose “all”, or search for something else.`;
  };

  const update = () => {
    found = current().problems.filter(fits);
    shown = 0;
    rows.replaceChildren();
    extend();
  };

  fill(source, data.sources.map((entry, index) => [String(index), entry.title]));
  source.addEventListener("change", () => { choose(); update(); });
  for (const select of [task, model, outcome]) select.addEventListener("change", update);
  let timer = 0;
  search.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(update, 120); });
  more.addEventListener("click", () => {
    const first = shown;
    extend();
    const heading = rows.children[first]?.querySelector("h3");
    if (heading) { heading.tabIndex = -1; heading.focus(); }
  });
  choose();
  update();
  browser.hidden = false;
})();
