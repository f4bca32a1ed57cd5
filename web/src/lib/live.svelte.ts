import { CloseCode, createClient, type Client } from "graphql-ws";
import type { TypedDocument } from "./graphql";

/** Whether live updates arrive: `null` before it is known. */
class Connection {
  connected = $state<boolean | null>(null);
}

export const connection = new Connection();

/** How often a silent socket is tried, and how long its answer may take, in milliseconds. */
const TRIED_EVERY = 10_000;
const PATIENCE = 5_000;

/** How often what is followed is asked anew as long as there is no socket, in milliseconds: a network may let questions
 * through all the same. */
const ASKED_EVERY = 5_000;

interface Followed {
  begin: () => void;
  /** What must be asked anew when updates may have been missed. */
  again: () => void;
}

let client: Client | undefined;
/** Without any, a closed socket is no loss. */
const followed = new Set<Followed>();
/** Whether a session has ended: what was followed goes on when it is resumed. */
let paused = false;
let lockedOut = () => {};

/** Hear that the server has closed the socket because the session has ended. */
export function onClosedOut(listener: () => void): void {
  lockedOut = listener;
}

/** Follow a subscription until the function that is returned is called. A dropped socket is opened again for as long as it
 * takes; `again` is called when that was done, and meanwhile every few seconds that the server answers, for what must be
 * asked anew. */
export function follow<Result, Variables extends Record<string, unknown>>(
  document: TypedDocument<Result, Variables>,
  variables: Variables,
  next: (result: Result) => void,
  again: () => void,
): () => void {
  let stop = () => {};
  const ended = () => {
    if (paused || !followed.delete(one)) return;
    if (followed.size === 0 && connection.connected === false) connection.connected = null;
  };
  const one: Followed = {
    begin: () => {
      client ??= opened();
      stop = client.subscribe<Result>(
        { query: document, variables },
        {
          next: ({ data }) => {
            if (data) next(data);
          },
          // A row that is gone has nothing more to say.
          error: (error) => {
            if (isLockedOut(error)) lockedOut();
            else if (!(error instanceof CloseEvent)) ended();
            else setTimeout(() => followed.has(one) && !paused && one.begin(), PATIENCE);
          },
          complete: ended,
        },
      );
    },
    again,
  };
  followed.add(one);
  if (!paused) one.begin();
  return () => {
    followed.delete(one);
    stop();
  };
}

/** Close the socket: the next one may be somebody else's. */
export function hangUp(): void {
  paused = true;
  void client?.dispose();
  client = undefined;
  connection.connected = null;
}

/** Follow again what was followed. */
export function resume(): void {
  paused = false;
  for (const one of followed) {
    one.begin();
    one.again();
  }
}

setInterval(() => connection.connected === false && void askMeanwhile(), ASKED_EVERY);

async function askMeanwhile(): Promise<void> {
  const answered = await fetch("/livez").then(
    ({ ok }) => ok,
    () => false,
  );
  if (answered && connection.connected === false) for (const { again } of followed) again();
}

/** Whether the socket, or one subscription on it, has ended with its session. */
function isLockedOut(error: unknown): boolean {
  if (error instanceof CloseEvent) return error.code === CloseCode.Unauthorized;
  return Array.isArray(error) && error.some(({ extensions }) => extensions?.code === "UNAUTHENTICATED");
}

function opened(): Client {
  let before = false;
  let silent: ReturnType<typeof setTimeout> | undefined;
  const one = createClient({
    url: `${location.origin.replace(/^http/, "ws")}/graphql`,
    // Without these it would die with the first restart of the server.
    shouldRetry: () => true,
    retryAttempts: Infinity,
    retryWait: (retries) =>
      new Promise((resolve) => setTimeout(resolve, Math.min(5_000, 200 * 2 ** retries) * (0.5 + Math.random() / 2))),
    keepAlive: TRIED_EVERY,
    on: {
      connected: () => {
        connection.connected = true;
        if (before) for (const { again } of followed) again();
        before = true;
      },
      ping: (received) => {
        // A network that has gone silent closes nothing by itself.
        if (!received) silent = setTimeout(() => one.terminate(), PATIENCE);
      },
      pong: (received) => {
        if (received) clearTimeout(silent);
      },
      closed: () => {
        clearTimeout(silent);
        if (one === client && followed.size > 0) connection.connected = false;
      },
    },
  });
  return one;
}
