import { createClient, type Client } from "graphql-ws";
import type { TypedDocument } from "./graphql";

/** Whether live updates arrive: `null` before anything has been asked for. */
class Connection {
  connected = $state<boolean | null>(null);
}

export const connection = new Connection();

let client: Client | undefined;
/** How many are followed: without any, a closed socket is no loss. */
let followed = 0;
const reconnected = new Set<() => void>();

/** Follow a subscription until the function that is returned is called. A dropped socket is opened again for as long as it
 * takes; `again` is called when that was done, for what must be asked anew. */
export function follow<Result, Variables extends Record<string, unknown>>(
  document: TypedDocument<Result, Variables>,
  variables: Variables,
  next: (result: Result) => void,
  again?: () => void,
): () => void {
  client ??= opened();
  if (again) reconnected.add(again);
  let over = false;
  followed += 1;
  const ended = () => {
    if (over) return;
    over = true;
    if (again) reconnected.delete(again);
    followed -= 1;
    if (followed === 0 && connection.connected === false) connection.connected = null;
  };
  const stop = client.subscribe<Result>(
    { query: document, variables },
    {
      next: ({ data }) => {
        if (data) next(data);
      },
      // A session that has ended is told by the next question; a row that is gone has nothing more to say.
      error: ended,
      complete: ended,
    },
  );
  return () => {
    ended();
    stop();
  };
}

/** Close the socket: the next one is somebody else's. */
export function hangUp(): void {
  void client?.dispose();
  client = undefined;
  connection.connected = null;
}

function opened(): Client {
  let before = false;
  return createClient({
    url: `${location.origin.replace(/^http/, "ws")}/graphql`,
    // Without these it would die with the first restart of the server.
    shouldRetry: () => true,
    retryAttempts: Infinity,
    retryWait: (retries) =>
      new Promise((resolve) => setTimeout(resolve, Math.min(5_000, 200 * 2 ** retries) * (0.5 + Math.random() / 2))),
    keepAlive: 10_000,
    on: {
      connected: () => {
        connection.connected = true;
        if (before) for (const listener of reconnected) listener();
        before = true;
      },
      closed: () => {
        if (before && followed > 0) connection.connected = false;
      },
    },
  });
}
