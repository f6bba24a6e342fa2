"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const questions = Object.entries(data.questions);
const store = `curation-study-${data.study}`;
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
let at = 0, marked = 0, votes = {};

function remember() {
  try { localStorage.setItem(store, JSON.stringify({rater: find("rater").value, votes})); } catch { /* kept in this tab alone */ }
}

function recall() {
  try {
    const kept = JSON.parse(localStorage.getItem(store));
    if (kept) { votes = kept.votes; find("rater").value = kept.rater; }
  } catch { votes = {}; }
}

function element(name, properties = {}, ...inside) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...inside);
  return made;
}

const voteOf = (sample, question) => (votes[sample.id] || {})[question];
const isOpen = (sample) => questions.some(([question]) => !voteOf(sample, question));

function shown(file, number) {
  const label = `Video ${number}`;
  if (!/\.(mp4|webm)$/.test(file)) return element("img", {src: file, alt: label});
  const video = element("video", {src: file, loop: true, muted: true, playsInline: true, controls: true, autoplay: !still});
  video.setAttribute("aria-label", label);
  return video;
}

function choices(sample, question, text, place) {
  const set = element("fieldset", {}, element("legend", {textContent: text}));
  set.dataset.question = question;
  set.addEventListener("focusin", () => mark(place));
  const options = [...sample.videos.map((file, n) => [file, String(n + 1)]), [data.tie, "no difference"]];
  for (const [value, title] of options) {
    const radio = element("input", {type: "radio", name: question, value, checked: voteOf(sample, question) === value});
    radio.addEventListener("change", () => vote(question, value));
    set.append(element("label", {}, radio, title));
  }
  return set;
}

function mark(place) {
  marked = place;
  [...find("questions").children].forEach((set, n) => set.toggleAttribute("data-marked", n === marked));
}

function vote(question, value) {
  const sample = data.samples[at];
  votes[sample.id] = {...votes[sample.id], [question]: value};
  remember();
  progress();
}

function progress() {
  const left = data.samples.filter(isOpen).length;
  find("progress").textContent = `${data.samples.length - left} of ${data.samples.length} clips done` + (left ? "" : ": save your votes");
  find("open").disabled = !left;
}

function show(next, focus = true) {
  at = Math.max(0, Math.min(data.samples.length - 1, next));
  const sample = data.samples[at];
  find("sample").textContent = `Clip ${at + 1} of ${data.samples.length}`;
  find("prompt").textContent = sample.prompt;
  const pictures = sample.pictures.map(({file, word}) => element("figure", {}, element("img", {src: file, alt: word || "background"}), element("figcaption", {textContent: word || "background"})));
  find("pictures").replaceChildren(...pictures);
  find("videos").replaceChildren(...sample.videos.map((file, n) => element("figure", {}, shown(file, n + 1), element("figcaption", {textContent: n + 1}))));
  find("questions").replaceChildren(...questions.map(([question, text], n) => choices(sample, question, text, n)));
  mark(Math.max(0, questions.findIndex(([question]) => !voteOf(sample, question))));
  find("before").disabled = at === 0;
  find("after").disabled = at === data.samples.length - 1;
  if (focus) find("sample").focus();
  progress();
}

function nextOpen() {
  const order = data.samples.map((_, n) => (at + 1 + n) % data.samples.length);
  const found = order.find((n) => isOpen(data.samples[n]));
  if (found !== undefined) show(found);
}

function again() {
  for (const video of document.querySelectorAll("#videos video")) { video.currentTime = 0; video.play().catch(() => {}); }
}

const cell = (text) => `"${String(text).replaceAll('"', '""')}"`;

function save() {
  const rater = find("rater").value.trim();
  find("said").textContent = rater ? "" : "Write your name first: votes are counted by rater.";
  if (!rater) { find("rater").focus(); return; }
  const rows = data.samples.flatMap((sample) => questions.filter(([question]) => voteOf(sample, question)).map(([question]) => [data.study, rater, sample.id, question, voteOf(sample, question)]));
  const text = [["study", "rater", "sample", "question", "choice"], ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
  const url = URL.createObjectURL(new Blob([text], {type: "text/csv"}));
  const link = element("a", {href: url, download: `votes-${data.study}-${rater.replace(/[^\w-]+/g, "_")}.csv`});
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target === find("rater")) return;
  const radios = find("questions").children[marked].querySelectorAll("input");
  const digit = /^[0-9]$/.test(event.key) ? Number(event.key) : -1;
  const radio = digit === 0 ? radios[radios.length - 1] : digit > 0 && digit < radios.length ? radios[digit - 1] : null;
  if (radio) {
    radio.checked = true;
    vote(questions[marked][0], radio.value);
    mark(Math.min(marked + 1, questions.length - 1));
  } else if (event.key === "j") show(at + 1);
  else if (event.key === "k") show(at - 1);
  else if (event.key === "p") again();
  else return;
  event.preventDefault();
}

find("before").addEventListener("click", () => show(at - 1));
find("after").addEventListener("click", () => show(at + 1));
find("open").addEventListener("click", nextOpen);
find("again").addEventListener("click", again);
find("save").addEventListener("click", save);
find("rater").addEventListener("input", remember);
document.addEventListener("keydown", pressed);
recall();
show(Math.max(0, data.samples.findIndex(isOpen)), false);
