"use strict";
// What comes from a run is only ever text: nothing here makes HTML of a string.

const $ = (id) => document.getElementById(id);
const against = document.body.dataset.against;
const state = { query: new URLSearchParams(location.search), rows: [], total: 0, size: 50, key: null, of: "a", masks: true, asked: 0, opened: 0, facts: null };

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== ""));
  return element;
}

function shape(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const at = (path, facts) => `${path}?${new URLSearchParams(facts)}`;
const count = (number) => number.toLocaleString("en");
const short = (value) => (value == null ? "–" : Number.isInteger(value) ? count(value) : String(+value.toPrecision(4)));
const say = (text) => { $("said").textContent = text; };
const why = (row) => [row.stage && `${row.stage}: ${row.reason}`, row.detail].filter(Boolean).join(" – ");

async function get(path, facts = {}) {
  const answer = await fetch(at(path, facts));
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error);
  return told;
}

async function post(path, told) {
  const answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(told) });
  const back = await answer.json();
  if (!answer.ok) throw new Error(back.error);
  return back;
}

// ---------------------------------------------------------------- the list

function asked() {
  const query = new URLSearchParams(state.query);
  query.delete("key");
  query.delete("of");
  return query;
}

function remember() {
  const query = asked();
  if (state.key !== null) query.set("key", state.key);
  if (state.key !== null && state.of !== "a") query.set("of", state.of);
  history.replaceState(null, "", `${location.pathname}${query.size ? "?" : ""}${query}`);
}

async function list() {
  const mine = ++state.asked;
  remember();
  try {
    const found = await get("rows", asked());
    if (mine !== state.asked) return;
    Object.assign(state, { rows: found.rows, total: found.total, size: found.size });
    say("");
  } catch (error) {
    if (mine === state.asked) say(error.message);
    return;
  }
  const page = +(state.query.get("page") || 0);
  const pages = Math.max(1, Math.ceil(state.total / state.size));
  $("total").textContent = `${count(state.total)} ${state.total === 1 ? "clip" : "clips"}`;
  $("at").textContent = `${count(page + 1)} of ${count(pages)}`;
  $("before").disabled = page === 0;
  $("after").disabled = page + 1 >= pages;
  $("rows").replaceChildren(...state.rows.map(item));
  mark();
}

function item(row) {
  const sorted = (state.query.get("sort") || "").replace(/^-/, "");
  const picture = row.offset == null ? make("span") : make("img", { src: at("thumb", { key: row.key }), alt: "", loading: "lazy", width: 88, height: 58 });
  return make("li", {}, make("a", { class: row.offset == null ? "bare" : null, href: at(location.pathname, { key: row.key }), "data-key": row.key, onclick: (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    open(row.key);
  } }, picture, make("span", {},
    make("span", { class: "caption clamp" }, row.caption || "(no caption)"),
    make("span", { class: "meta" }, make("span", { class: `verdict ${row.verdict}` }, row.verdict), why(row) ? make("span", {}, why(row)) : null, make("span", {}, row.key),
      sorted in row && !["key", "caption", "start"].includes(sorted) ? make("span", {}, `${sorted} ${short(row[sorted])}`) : null,
      make("span", { class: "decided" }, decided(row))))));
}

const decided = (row) => [{ keep: "✓ keep", drop: "✗ drop" }[row.decision], row.note && "✎ note"].filter(Boolean).join(" ");

function mark() {
  for (const link of $("rows").querySelectorAll("a")) {
    if (link.dataset.key === state.key) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

function turn(step) {
  const page = +(state.query.get("page") || 0) + step;
  if (page < 0 || page * state.size >= state.total) return Promise.resolve(false);
  state.query.set("page", page);
  return list().then(() => true);
}

async function step(by) {
  let place = state.rows.findIndex((row) => row.key === state.key);
  place = place < 0 ? (by > 0 ? 0 : state.rows.length - 1) : place + by;
  if (place < 0 || place >= state.rows.length) {
    if (!(await turn(by))) return;
    place = by > 0 ? 0 : state.rows.length - 1;
  }
  if (state.rows[place]) await open(state.rows[place].key);
  $("rows").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
}

// ---------------------------------------------------------------- filters

function filters() {
  const form = $("filters");
  let wait = 0;
  const changed = (name, value) => {
    if (value) state.query.set(name, value);
    else state.query.delete(name);
    state.query.delete("page");
    clearTimeout(wait);
    wait = setTimeout(list, 200);
  };
  for (const field of form.querySelectorAll("[name]")) {
    if (field.name === "why") continue;
    field.value = state.query.get(field.name) || "";
    field.addEventListener("input", () => changed(field.name, field.value));
  }
  form.addEventListener("submit", (event) => event.preventDefault());
  form.elements.why.addEventListener("input", (event) => {
    const [stage, reason] = event.target.value ? JSON.parse(event.target.value) : ["", ""];
    changed("stage", stage);
    changed("reason", reason);
  });
  const bound = (end, field) => () => { if ($("score").value) { changed(`${end}.${$("score").value}`, $(field).value); ranges(changed); } };
  $("least").addEventListener("input", bound("min", "least"));
  $("most").addEventListener("input", bound("max", "most"));
  $("score").addEventListener("input", () => {
    $("least").value = state.query.get(`min.${$("score").value}`) || "";
    $("most").value = state.query.get(`max.${$("score").value}`) || "";
  });
  ranges(changed);
  $("before").addEventListener("click", () => turn(-1));
  $("after").addEventListener("click", () => turn(1));
}

function ranges(changed) {
  const found = [...state.query].filter(([name]) => /^(min|max)\./.test(name));
  $("ranges").replaceChildren(...found.map(([name, value]) => make("li", {}, make("button", { type: "button", onclick: () => {
    changed(name, "");
    ranges(changed);
    $("score").dispatchEvent(new Event("input"));
  } }, `${name.slice(4)} ${name.startsWith("min") ? "≥" : "≤"} ${value} ✕`))));
  if (found.length || state.query.get("word") || state.query.get("kind")) $("ranges").closest("details").open = true;
}

async function about() {
  const told = await get("about");
  const field = $("filters").elements.why;
  const reasons = told.counts.a.filter((row) => row.reason);
  field.replaceChildren(make("option", { value: "" }, "any"), ...reasons.map((row) => make("option", { value: JSON.stringify([row.stage, row.reason]) }, `${row.stage}: ${row.reason} (${count(row.count)})`)));
  field.value = state.query.get("reason") ? JSON.stringify([state.query.get("stage") || "", state.query.get("reason")]) : "";
  $("again").title = `Read at ${new Date(told.read.a * 1000).toLocaleTimeString()}; a run may have gone on`;
}

// ---------------------------------------------------------------- one clip

async function open(key, of = "a") {
  const mine = ++state.opened;
  Object.assign(state, { key, of });
  remember();
  mark();
  try {
    const facts = await get("clip", { key, of });
    if (mine !== state.opened) return;
    state.facts = facts;
  } catch (error) {
    if (mine === state.opened) say(error.message);
    return;
  }
  document.body.classList.add("open");
  $("detail").hidden = false;
  $("detail").replaceChildren(...shown(state.facts));
  $("detail").scrollTop = 0;
  if (getComputedStyle($("list")).display === "none") window.scrollTo(0, 0);
  $("detail").querySelector("h2").focus({ preventScroll: true });
}

function close() {
  const key = state.key;
  state.opened += 1;
  Object.assign(state, { key: null, facts: null });
  document.body.classList.remove("open");
  $("detail").hidden = true;
  $("detail").replaceChildren();
  remember();
  mark();
  [...$("rows").querySelectorAll("a")].find((link) => link.dataset.key === key)?.focus();
}

function shown(facts) {
  const member = (suffix) => at("member", { key: facts.key, of: state.of, suffix });
  const entities = facts.clip?.entities || [];
  return [
    make("button", { type: "button", class: "close", onclick: close }, "Close"),
    make("h2", { tabindex: -1 }, facts.key),
    make("p", { class: "caption" }, ...marked(facts.caption, entities)),
    make("p", {}, make("span", { class: `verdict ${facts.verdict}` }, facts.verdict), " ", why(facts)),
    ...facts.lost.map((text) => make("p", { class: "lost", role: "alert" }, text)),
    against ? make("p", {}, make("button", { type: "button", onclick: () => open(facts.key, state.of === "a" ? "b" : "a") }, state.of === "a" ? "The same in the other run" : "Back to this run")) : null,
    ...(state.of === "a" ? decision(facts) : []),
    "mp4" in facts.members ? make("video", { src: member("mp4"), controls: true, loop: true, muted: true, playsinline: true, preload: "metadata", "aria-label": "The clip" }) : null,
    ...source(facts),
    ...frames(facts, entities, member),
    ...pictures("Cut-outs", facts, entities, member, /^ref\.(\d+)\.(\d)\./),
    ...pictures("Faces", facts, entities, member, /^face\.(\d+)\.(\d)\./),
    ...background(facts, member),
    ...scores(facts),
    ...rest(facts, member),
  ].filter(Boolean);
}

function marked(caption, entities) {
  const parts = [];
  const letters = [...caption];
  let done = 0;
  entities.map((entity, i) => ({ ...entity, i })).sort((a, b) => a.span[0] - b.span[0]).forEach((entity) => {
    if (entity.span[0] < done) return;
    parts.push(letters.slice(done, entity.span[0]).join(""), make("span", { class: `e e${entity.i % 7}`, title: entity.kind }, letters.slice(...entity.span).join("")));
    done = entity.span[1];
  });
  return [...parts, letters.slice(done).join("")];
}

function decision(facts) {
  const button = (name, says, key) => make("button", { type: "button", "aria-pressed": String(facts.decision.decision === name && name !== ""), "aria-keyshortcuts": key, onclick: () => decide(name) }, says);
  const note = make("textarea", { id: "note", rows: 1, maxlength: document.body.dataset.longest });
  note.value = facts.decision.note;
  note.addEventListener("change", () => decide(state.facts.decision.decision));
  return [make("div", { class: "buttons" }, button("keep", "✓ Keep", "y"), button("drop", "✗ Drop", "x"), button("", "Take back", "u"), make("small", {}, by(facts))), make("label", {}, "Note ", note)];
}

async function decide(name) {
  const facts = state.facts;
  if (!facts || state.of !== "a") return;
  const note = $("note").value;
  try {
    const made = await post("decide", { key: facts.key, decision: name, note });
    facts.decision = { decision: made.decision, note: made.note, who: made.who, decided: made.time };
    say("");
  } catch (error) {
    say(error.message);
    return;
  }
  const row = state.rows.find((one) => one.key === facts.key);
  if (row) {
    Object.assign(row, { decision: name, note });
    const link = [...$("rows").querySelectorAll("a")].find((one) => one.dataset.key === facts.key);
    link.querySelector(".decided")?.remove();
    link.querySelector(".meta").append(make("span", { class: "decided" }, decided(row)));
  }
  if (state.facts !== facts) return;
  for (const button of $("detail").querySelectorAll(".buttons [aria-pressed]")) {
    button.setAttribute("aria-pressed", String(name !== "" && button.getAttribute("aria-keyshortcuts") === { keep: "y", drop: "x" }[name]));
  }
  $("detail").querySelector(".buttons small").textContent = by(facts);
}

const by = (facts) => (facts.decision.decided ? [facts.decision.who, facts.decision.decided].filter(Boolean).join(", ") : "");

function source(facts) {
  if (facts.offset != null) return [];
  const title = make("h3", {}, "The source at that time");
  if (!facts.plays) return facts.stills ? [title, stills(facts)] : [make("p", { class: "faint" }, "Its source is not to be reached from here.")];
  const time = facts.start == null ? "" : `#t=${facts.start}${facts.end == null ? "" : `,${facts.end}`}`;
  const video = make("video", { src: at("source", { key: facts.key, of: state.of }) + time, controls: true, muted: true, playsinline: true, preload: "metadata", "aria-label": "The source at that time" });
  const instead = () => video.replaceWith(facts.stills ? stills(facts) : make("p", { class: "faint" }, "This browser cannot play its source."));
  video.addEventListener("error", instead);
  video.addEventListener("loadedmetadata", () => { if (!video.videoWidth) instead(); });
  return [title, video];
}

function stills(facts) {
  const numbers = [...Array(facts.stills).keys()];
  return make("div", { class: "pictures" }, numbers.map((number) => make("figure", {}, picture(at("still", { key: facts.key, of: state.of, number }), `Still ${number + 1} of the source`))));
}

function picture(src, alt) {
  const image = make("img", { src, alt });
  image.addEventListener("error", () => image.replaceWith(make("p", { class: "faint" }, `${alt}: cannot be read`)));
  return image;
}

function frames(facts, entities, member) {
  const numbers = [0, 1, 2].filter((number) => `frame${number}.jpg` in facts.members);
  if (!numbers.length) return [];
  const toggle = (entity, i) => {
    const box = make("input", { type: "checkbox", "data-entity": i });
    box.checked = state.masks;
    box.addEventListener("change", () => show(i, box.checked));
    return make("li", {}, make("label", {}, box, " ", make("span", { class: `e e${i % 7}` }, entity.word), make("small", {}, ` ${entity.kind}`)));
  };
  const seen = entities.map((entity, i) => [entity, i]).filter(([entity]) => entity.refs.length);
  const unseen = entities.filter((entity) => !entity.refs.length && entity.reason);
  const layers = (number) => make("div", { class: "layers" }, picture(member(`frame${number}.jpg`), `Frame ${number + 1}`),
    seen.filter(([entity]) => entity.refs.some((ref) => ref.frame === number)).map(([entity, i]) => make("img", { src: at("mask", { key: facts.key, of: state.of, entity: i, frame: number }), alt: `Mask of ${entity.word}`, "data-mask": i, hidden: !state.masks })));
  return [make("h3", {}, "Frames"), seen.length ? make("ul", { class: "toggles", "aria-label": "Masks" }, seen.map(([entity, i]) => toggle(entity, i))) : null,
    make("div", { class: "pictures" }, numbers.map((number) => make("figure", {}, layers(number)))),
    unseen.length ? make("p", {}, make("small", {}, `Without a mask: ${unseen.map((entity) => `${entity.word} (${entity.reason})`).join(", ")}`)) : null];
}

function show(entity, on) {
  for (const image of $("detail").querySelectorAll("[data-mask]")) if (image.dataset.mask === String(entity)) image.hidden = !on;
}

function masks() {
  state.masks = !state.masks;
  for (const box of $("detail").querySelectorAll("[data-entity]")) {
    box.checked = state.masks;
    show(box.dataset.entity, state.masks);
  }
}

function pictures(title, facts, entities, member, pattern) {
  const found = Object.keys(facts.members).map((suffix) => [suffix, suffix.match(pattern)]).filter(([, match]) => match);
  if (!found.length) return [];
  const says = ([, entity, frame]) => `${entities[entity]?.word || `entity ${+entity + 1}`}, frame ${+frame + 1}`;
  const refused = entities.flatMap((entity) => entity.refs.filter((ref) => ref.refused).map((ref) => `${entity.word}, frame ${ref.frame + 1}: ${ref.refused}`));
  return [make("h3", {}, title), make("div", { class: "pictures small" }, found.map(([suffix, match]) => make("figure", {}, picture(member(suffix), `${title.slice(0, -1)} of ${says(match)}`), make("figcaption", {}, says(match))))),
    title === "Cut-outs" && refused.length ? make("p", {}, make("small", {}, `Refused: ${refused.join("; ")}`)) : null];
}

function background(facts, member) {
  const told = facts.clip?.background;
  if (!told) return [];
  if (!("background.jpg" in facts.members)) return told.reason ? [make("h3", {}, "Background"), make("p", {}, `None: ${told.reason}`)] : [];
  const frame = `frame${told.frame}.jpg`;
  const beside = frame in facts.members ? make("figure", {}, picture(member(frame), `Frame ${told.frame + 1}`), make("figcaption", {}, `frame ${told.frame + 1}, which it was made of`)) : null;
  return [make("h3", {}, "Background"), make("div", { class: "pictures" }, beside, make("figure", {}, picture(member("background.jpg"), "Background"), make("figcaption", {}, `by ${told.method}; other frames showed ${short(100 * told.coverage)} % of the hole`)))];
}

function scores(facts) {
  if (!facts.scores.length) return [];
  const row = (score) => {
    const limits = score.bounds.map((bound) => `${bound.kind === "least" ? "≥" : "≤"} ${short(bound.value)}`).join(", ");
    return make("tr", {}, make("th", { scope: "row", title: score.says }, score.name.split("_").flatMap((part, i, parts) => (i + 1 < parts.length ? [`${part}_`, make("wbr")] : [part]))), make("td", { class: "num" }, short(score.value)), make("td", { class: "num" }, limits),
      make("td", { class: "num" }, score.count ? `${(100 * score.below / score.count).toFixed(1)} %` : "–"), make("td", { class: "draw" }, score.bars ? histogram(score) : ""));
  };
  const heads = ["score", "here", "bound", "have less", "among all"];
  return [make("h3", {}, "Scores"), make("table", {}, make("thead", {}, make("tr", {}, heads.map((head, i) => make("th", { scope: "col", class: i > 0 && i < 4 ? "num" : null }, head)))), make("tbody", {}, facts.scores.map(row)))];
}

function histogram(score) {
  const top = Math.max(...score.bars, 1);
  const here = Math.min(score.bars.length - 1, Math.floor((score.value - score.first) / score.width));
  const bars = score.bars.map((found, i) => [found || i === here ? Math.max(4, 100 * Math.sqrt(found / top)) : 0, i]).filter(([height]) => height);
  const drawing = shape("svg", { viewBox: `0 0 ${score.bars.length} 100`, preserveAspectRatio: "none", role: "img", "aria-label": `${score.name}: ${short(score.value)} among ${short(score.first)} to ${short(score.most)}` },
    ...bars.map(([height, i]) => shape("rect", { x: i + 0.06, width: 0.88, y: 100 - height, height, class: i === here ? "here" : "" })));
  for (const bound of score.bounds) {
    const x = (bound.value - score.first) / score.width;
    if (x <= score.bars.length) drawing.append(shape("line", { x1: x, x2: x, y1: 0, y2: 100 }));
  }
  return drawing;
}

function rest(facts, member) {
  const links = Object.entries(facts.members).map(([suffix, size]) => make("li", {}, make("a", { href: member(suffix) }, suffix), make("small", {}, ` ${count(size)} bytes`)));
  const place = facts.place.tar ? `${facts.place.tar}, bytes ${count(facts.offset)} to ${count(facts.offset + facts.size)}; ${facts.place.ledger}` : facts.place.ledger;
  return [make("h3", {}, "To take it out"), make("p", {}, make("code", {}, facts.command)), make("p", {}, make("small", {}, place)),
    links.length ? make("details", {}, make("summary", {}, "Members"), make("ul", {}, links)) : null,
    facts.ledger ? make("details", {}, make("summary", {}, "Ledger row"), make("pre", { tabindex: 0 }, JSON.stringify(facts.ledger, null, 1))) : null,
    facts.clip ? make("details", {}, make("summary", {}, "Metadata"), make("pre", { tabindex: 0 }, JSON.stringify(facts.clip, null, 1))) : null];
}

// ---------------------------------------------------------------- two runs

const WHY = ["a_verdict", "a_stage", "a_reason", "b_verdict", "b_stage", "b_reason"];
const told = (row, of) => row[`${of}_verdict`] ? [row[`${of}_verdict`], [row[`${of}_stage`], row[`${of}_reason`]].filter(Boolean).join(": ")].filter(Boolean).join(", ") : "not there";

async function compare() {
  const found = await get("moves");
  const head = (names) => make("thead", {}, make("tr", {}, names.map((name) => make("th", { scope: "col" }, name))));
  const row = (move) => make("tr", {}, make("td", {}, make("button", { type: "button", onclick: () => moved(move, 0) }, count(move.count))), make("td", {}, told(move, "a")), make("td", {}, told(move, "b")));
  const setting = (value) => value === null ? "–" : JSON.stringify(value);
  $("moves").replaceChildren(
    make("h2", {}, "What moved"),
    found.moves.length ? make("table", {}, head(["clips", "this run says", "the other says"]), make("tbody", {}, found.moves.map(row))) : make("p", {}, "Nothing: both say the same of every clip."),
    make("details", { open: found.settings.length < 12 }, make("summary", {}, `What the recipes say differently (${found.settings.length})`), make("table", {}, head(["setting", "this run", "the other"]), make("tbody", {}, found.settings.map(([name, a, b]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, setting(a)), make("td", {}, setting(b))))))),
    make("div", { id: "moved" }));
}

async function moved(move, page) {
  const found = await get("moved", { ...Object.fromEntries(WHY.map((name) => [name, move[name]])), page });
  const differ = (row) => Object.entries(row.scores).filter(([, [a, b]]) => a !== null && b !== null).map(([name, [a, b]]) => `${name} ${short(a)} / ${short(b)}`).join(", ");
  const item = (row) => make("tr", {}, make("td", {}, make("button", { type: "button", onclick: () => open(row.key, row.a_verdict ? "a" : "b") }, row.key), make("span", { class: "caption clamp" }, row.caption)),
    make("td", {}, make("small", {}, [row.a_detail, row.b_detail].filter(Boolean).join(" / "))), make("td", {}, make("small", {}, differ(row))));
  const last = Math.max(1, Math.ceil(found.total / found.size));
  $("moved").replaceChildren(make("h3", {}, `${told(move, "a")} → ${told(move, "b")}`),
    make("table", {}, make("thead", {}, make("tr", {}, ["clip", "details", "scores, here / there"].map((name) => make("th", { scope: "col" }, name)))), make("tbody", {}, found.rows.map(item))),
    make("p", { class: "buttons" }, make("button", { type: "button", disabled: page === 0, onclick: () => moved(move, page - 1) }, "Before"), `${count(page + 1)} of ${count(last)}`, make("button", { type: "button", disabled: page + 1 >= last, onclick: () => moved(move, page + 1) }, "After")));
}

function turnTo(moves) {
  $("list").hidden = moves;
  $("moves").hidden = !moves;
  $("to-list").setAttribute("aria-pressed", String(!moves));
  $("to-moves").setAttribute("aria-pressed", String(moves));
  if (moves) compare().catch((error) => say(error.message));
}

// ---------------------------------------------------------------- keys

const KEYS = {
  j: () => step(1), k: () => step(-1), x: () => decide("drop"), y: () => decide("keep"), u: () => decide(""), m: masks,
  n: () => $("note")?.focus(), "/": () => $("filters").elements.q.focus(), Escape: () => state.key !== null && close(),
  p: () => { const video = $("detail").querySelector("video"); if (video) (video.paused ? video.play() : video.pause()); },
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  if (event.key === "Escape" && event.target.matches("input, textarea, select")) { event.target.blur(); return; }
  if (event.target.matches("input:not([type=checkbox]), textarea, select") || !(event.key in KEYS) || (!$("keys").checked && event.key !== "Escape")) return;
  event.preventDefault();
  KEYS[event.key]();
});

filters();
if (against) {
  $("to-list").addEventListener("click", () => turnTo(false));
  $("to-moves").addEventListener("click", () => turnTo(true));
}
$("to-help").addEventListener("click", () => $("help").showModal());
$("again").addEventListener("click", async () => {
  say("Reading the ledgers …");
  try {
    await post("again", {});
    await Promise.all([about(), list()]);
  } catch (error) { say(error.message); }
});
about().catch((error) => say(error.message));
list().then(() => { if (state.query.get("key")) open(state.query.get("key"), state.query.get("of") || "a"); });
