// A stream of server-sent events that comes back by itself, and says on the page whether it is there.
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 15000;

// `address` is asked at each new connection. `handlers`: kind of message to what takes it; "*" takes all kinds.
export function holdStream(address, handlers, kinds = Object.keys(handlers)) {
  let pause = FIRST_PAUSE_MS;
  let source = null;

  function open() {
    source = new EventSource(address());
    source.onopen = () => {
      pause = FIRST_PAUSE_MS;
      say("live", "Live");
    };
    source.onerror = () => {
      say("away", "Connection lost, trying again…");
      if (source.readyState === EventSource.CLOSED) again();
    };
    for (const kind of kinds) source.addEventListener(kind, handlers[kind] ?? handlers["*"]);
  }

  // The server refused, or is starting: browsers do not try that again by themselves.
  async function again() {
    source.close();
    const delay = pause;
    pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
    await new Promise((resolve) => setTimeout(resolve, delay));
    if (await loggedOut()) say("away", "Your login has ended: reload the page to log in");
    else open();
  }

  open();
  // A page that the browser keeps for the back button holds no connection.
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => event.persisted && open());
}

async function loggedOut() {
  try {
    const answer = await fetch(location.href, { method: "HEAD", redirect: "manual", headers: { Accept: "text/html" } });
    return answer.type === "opaqueredirect" || answer.status === 401;
  } catch {
    return false;
  }
}

function say(state, words) {
  for (const sign of document.querySelectorAll(".live")) {
    sign.dataset.state = state;
    if (sign.textContent !== words) sign.textContent = words;
  }
}
