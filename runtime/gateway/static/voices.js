// The lists of voices, and the form that adds one.
const LISTS = ["voice1", "voice2"];
const $ = (id) => document.getElementById(id);

export async function listVoices(headers) {
  const answer = await fetch("v1/audio/voices", { headers: headers() });
  const names = answer.ok ? (await answer.json()).voices : ["default"];
  for (const id of LISTS) {
    const before = $(id).value;
    $(id).replaceChildren(...names.map((name) => new Option(name)));
    if (names.includes(before)) $(id).value = before;
  }
}

export function letAdd(headers) {
  $("add").addEventListener("submit", async (event) => {
    event.preventDefault();
    $("addVoice").disabled = true;
    tell("listening to the file …");
    try {
      const voice = await send(headers);
      await listVoices(headers);
      $(LISTS[Number($("addFor").value) - 1]).value = voice.id;
      const note = voice.note === undefined ? "" : ` (${voice.note})`;
      tell(`${voice.id} is S${$("addFor").value} now${note}`);
      $("addFile").value = "";
    } catch (error) {
      tell(error.message, true);
    } finally {
      $("addVoice").disabled = false;
    }
  });
}

async function send(headers) {
  const body = new FormData();
  body.append("name", $("addName").value.trim());
  body.append("transcript", $("addText").value.trim());
  body.append("consent", $("addConsent").checked ? "stated on the page" : "");
  body.append("audio_sample", $("addFile").files[0]);
  const answer = await fetch("v1/audio/voices", { method: "POST", body, headers: headers() });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error.message);
  return told;
}

function tell(text, isFault = false) {
  $("addStatus").textContent = text;
  $("addStatus").classList.toggle("fault", isFault);
}
