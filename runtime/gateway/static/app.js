import { letAdd, listVoices } from "./voices.js";
import { Wave } from "./wave.js";

const RATE = 24000;
const $ = (id) => document.getElementById(id);
const wave = new Wave($("wave"));
let talk = null;

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (talk === null) speak();
});
$("stop").addEventListener("click", () => talk?.stop());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") talk?.stop();
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("form").requestSubmit();
});

function headers() {
  const key = $("key").value.trim();
  return key === "" ? {} : { Authorization: `Bearer ${key}` };
}

function tell(text, isFault = false) {
  $("status").textContent = text;
  $("status").classList.toggle("fault", isFault);
}

// One dialogue from the request to its last sample.
class Talk {
  constructor() {
    this.parts = [];
    this.marks = []; // [first sample, turn]
    this.samples = 0;
    this.played = 0;
    this.began = performance.now();
    this.request = new AbortController();
    this.context = new AudioContext({ sampleRate: RATE });
  }

  async openPlayer() {
    if (this.context.audioWorklet === undefined) return; // browsers want localhost or https
    await this.context.audioWorklet.addModule("static/player.js");
    this.player = new AudioWorkletNode(this.context, "player", { outputChannelCount: [1] });
    this.heard = new Promise((resolve) => {
      this.player.port.onmessage = ({ data }) => {
        this.played = data.played;
        $("gaps").textContent = data.gaps;
        if (data.isOver) resolve();
      };
    });
    this.player.connect(this.context.destination);
  }

  take(event) {
    if (event.type === "speech.audio.error") throw new Error(event.error.message);
    if (event.type === "speech.audio.done") {
      this.marks = event.voice_segments.map((s, i) => [s.start_time_seconds * RATE, i]);
      $("made").textContent = `${event.duration_seconds.toFixed(1)} s, seed ${event.seed}`;
      return;
    }
    if (this.samples === 0) {
      $("ttfa").textContent = `${Math.round(performance.now() - this.began)} ms`;
      tell("speaking");
    }
    const samples = decode(event.audio);
    this.marks.push([this.samples, event.turn]);
    this.parts.push(samples);
    this.samples += samples.length;
    wave.add(samples, event.speaker);
    this.player?.port.postMessage(samples);
    const seconds = this.samples / RATE;
    $("made").textContent = `${seconds.toFixed(1)} s`;
    const factor = (seconds * 1000) / (performance.now() - this.began);
    $("rate").textContent = `${factor.toFixed(1)} × real time`;
  }

  get turn() {
    const reached = this.marks.filter(([first]) => first <= this.played);
    return reached.length === 0 ? 0 : reached[reached.length - 1][1];
  }

  stop() {
    this.isStopped = true;
    this.request.abort();
    this.context.close();
    this.release?.();
  }
}

async function speak() {
  talk = new Talk();
  const mine = talk;
  const stopped = new Promise((resolve) => (mine.release = resolve));
  showRunning(true);
  showTurns($("script").value);
  wave.clear(RATE);
  tell("waiting for the first audio");
  const animation = setInterval(() => show(mine), 50);
  try {
    await mine.openPlayer();
    for await (const event of events(mine)) mine.take(event);
    mine.player?.port.postMessage("end");
    await Promise.race([mine.heard, stopped]);
    tell(mine.isStopped ? "stopped" : "done");
  } catch (error) {
    if (mine.isStopped) tell("stopped");
    else tell(error.message, true);
  } finally {
    clearInterval(animation);
    show(mine, true);
    offer(mine.parts);
    if (!mine.isStopped) mine.context.close();
    talk = null;
    showRunning(false);
  }
}

async function* events(mine) {
  // Drawn here if none was given: a seed of the server's may have more digits than a number here.
  const seed = $("seed").value === "" ? Math.floor(Math.random() * 2 ** 32) : Number($("seed").value);
  const answer = await fetch("v1/audio/dialogue", {
    method: "POST",
    signal: mine.request.signal,
    headers: { "Content-Type": "application/json", ...headers() },
    body: JSON.stringify({
      input: $("script").value,
      voices: { 1: $("voice1").value, 2: $("voice2").value },
      speed: Number($("speed").value) || 1,
      seed,
      response_format: "pcm",
      sample_rate: RATE,
      stream_format: "ndjson",
    }),
  });
  if (!answer.ok) throw new Error((await answer.json()).error.message);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (text + value).split("\n");
    text = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}

function decode(base64) {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const whole = new Int16Array(bytes.buffer, 0, bytes.length >> 1);
  return Float32Array.from(whole, (sample) => sample / 32768);
}

function show(mine, isOver = false) {
  wave.draw(mine.played);
  const now = isOver ? -1 : mine.turn;
  [...$("turns").children].forEach((item, i) => {
    item.classList.toggle("now", i === now && mine.samples > 0);
    if (i === now && mine.samples > 0) item.setAttribute("aria-current", "true");
    else item.removeAttribute("aria-current");
  });
}

function showTurns(script) {
  const turns = [];
  let speaker = 1;
  for (const part of script.split(/([[(（【][sS]\d+[\])）】])/)) {
    const tag = part.match(/^[[(（【][sS](\d+)[\])）】]$/);
    if (tag) speaker = Number(tag[1]);
    else if (part.trim() !== "") turns.push([speaker, part.trim()]);
  }
  $("turns").replaceChildren(
    ...turns.map(([number, text]) => {
      const item = document.createElement("li");
      const name = document.createElement("b");
      item.dataset.speaker = number;
      name.textContent = `S${number}`;
      item.append(name, text);
      return item;
    }),
  );
}

function showRunning(isRunning) {
  $("speak").disabled = isRunning;
  $("stop").disabled = !isRunning;
}

function offer(parts) {
  const count = parts.reduce((sum, part) => sum + part.length, 0);
  const link = $("download");
  if (link.href) URL.revokeObjectURL(link.href);
  link.hidden = count === 0;
  if (count > 0) link.href = URL.createObjectURL(new Blob([wavOf(parts, count)], { type: "audio/wav" }));
}

function wavOf(parts, count) {
  const view = new DataView(new ArrayBuffer(44 + 2 * count));
  const word = (at, text) => [...text].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  word(0, "RIFF"); view.setUint32(4, 36 + 2 * count, true); word(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, RATE, true); view.setUint32(28, 2 * RATE, true);
  view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  word(36, "data"); view.setUint32(40, 2 * count, true);
  let at = 44;
  for (const part of parts) {
    for (const sample of part) { view.setInt16(at, Math.round(sample * 32768), true); at += 2; }
  }
  return view;
}

async function look() {
  try {
    const [ready, load] = await Promise.all([fetch("readyz"), fetch("status")]);
    const { reasons } = await ready.json();
    const { active_streams: active, max_streams: most } = await load.json();
    $("server").textContent = reasons.length > 0
      ? `server not ready: ${reasons.join("; ")}`
      : `server ready, ${active} of ${most} streams in use`;
  } catch {
    $("server").textContent = "the server does not answer";
  }
}

$("key").addEventListener("change", () => listVoices(headers));
listVoices(headers).catch(() => {});
letAdd(headers);
look();
setInterval(look, 2000);
