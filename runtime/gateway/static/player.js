// Plays samples in the order in which they come. Tells how many were played, and how many
// times it had none although more were to come.
class Player extends AudioWorkletProcessor {
  constructor() {
    super();
    this.queue = [];
    this.offset = 0;
    this.played = 0;
    this.gaps = 0;
    this.isEnded = false;
    this.isDry = true;
    this.port.onmessage = ({ data }) => {
      if (data === "end") this.isEnded = true;
      else this.queue.push(data);
    };
  }

  process(_inputs, [[out]]) {
    let filled = 0;
    while (filled < out.length && this.queue.length > 0) {
      const head = this.queue[0];
      const count = Math.min(out.length - filled, head.length - this.offset);
      out.set(head.subarray(this.offset, this.offset + count), filled);
      filled += count;
      this.offset += count;
      if (this.offset === head.length) {
        this.queue.shift();
        this.offset = 0;
      }
    }
    this.played += filled;
    const isOver = this.isEnded && this.queue.length === 0;
    const isDry = filled < out.length && !isOver;
    if (isDry && !this.isDry && this.played > 0) this.gaps += 1;
    this.isDry = isDry;
    if (isOver || currentFrame % 1024 < out.length) {
      this.port.postMessage({ played: this.played, gaps: this.gaps, isOver });
    }
    return !isOver;
  }
}

registerProcessor("player", Player);
