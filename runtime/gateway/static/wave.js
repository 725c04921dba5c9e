// The waveform: one peak per stretch of audio, drawn as the audio comes.
const PEAKS_PER_SECOND = 25;

export class Wave {
  constructor(canvas) {
    this.canvas = canvas;
    this.clear(24000);
  }

  clear(sampleRate) {
    this.size = Math.max(1, Math.round(sampleRate / PEAKS_PER_SECOND));
    this.peaks = [];
    this.turns = [];
    this.rest = 0;
    this.count = 0;
    this.draw(0);
  }

  add(samples, speaker) {
    for (const sample of samples) {
      this.rest = Math.max(this.rest, Math.abs(sample));
      this.count += 1;
      if (this.count % this.size === 0) {
        this.peaks.push(this.rest);
        this.turns.push(speaker);
        this.rest = 0;
      }
    }
  }

  draw(playedSamples) {
    const { canvas } = this;
    const context = canvas.getContext("2d");
    const style = getComputedStyle(document.documentElement);
    const colours = [1, 2].map((n) => getComputedColour(style, n));
    context.clearRect(0, 0, canvas.width, canvas.height);
    const middle = canvas.height / 2;
    const step = canvas.width / Math.max(this.peaks.length, 250);
    this.peaks.forEach((peak, i) => {
      const height = Math.max(1, peak * middle * 0.95);
      context.fillStyle = colours[(this.turns[i] + 1) % 2];
      context.globalAlpha = i * this.size < playedSamples ? 1 : 0.4;
      context.fillRect(i * step, middle - height, Math.max(1, step - 1), 2 * height);
    });
    context.globalAlpha = 1;
  }
}

function getComputedColour(style, number) {
  const probe = document.createElement("span");
  probe.style.color = style.getPropertyValue(number === 1 ? "--one" : "--two");
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}
