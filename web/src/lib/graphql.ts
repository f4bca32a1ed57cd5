import { current, say } from "./language.svelte";

/** The text of an operation; what it takes and gives is known to the type checker alone. */
export type TypedDocument<Result, Variables> = string & {
  readonly __types?: (variables: Variables) => Result;
};

/** An answer without data: the server's words, and its code where it has one. */
export class Failed extends Error {
  readonly code: string | undefined;

  constructor(message: string, code: string | undefined) {
    super(message);
    this.code = code;
  }
}

/** What the rules do not allow, in the server's words. `problems` name the fields they are about. */
export class Refused extends Error {
  readonly code: string;
  readonly problems: readonly { readonly path: readonly string[]; readonly message: string }[];
  readonly retryAfterSeconds: number | null;

  constructor(refusal: Refusal) {
    super(refusal.message);
    this.code = refusal.code;
    this.problems = refusal.problems;
    this.retryAfterSeconds = refusal.retryAfterSeconds;
  }
}

interface Refusal {
  readonly __typename: "Refusal";
  readonly code: string;
  readonly message: string;
  readonly problems: readonly { readonly path: readonly string[]; readonly message: string }[];
  readonly retryAfterSeconds: number | null;
}

/** What an operation gives when it is not refused. */
export type Granted<Result> = Exclude<Result[keyof Result], Refusal>;

type Listener = (code: string) => void;
const listeners = new Set<Listener>();

/** Hear of every answer that says the session has ended, or that the password must be changed first. */
export function onLockedOut(listener: Listener): void {
  listeners.add(listener);
}

/** Whose screens these are, by the user's identifier. */
let speaker: string | null = null;

/** From now on what is asked is asked for this user, or for nobody: another tab may have signed in somebody else, in whose
 * name nothing must be done here. */
export function speakFor(user: string | null): void {
  speaker = user;
}

/** How long an answer may take, with files on their way or without, in milliseconds. */
const PATIENCE = 30_000;
const PATIENCE_FOR_FILES = 300_000;

/** Ask the server. Throws Failed for an answer without data, anything else when there is no answer of its own. */
export async function ask<Result, Variables>(
  document: TypedDocument<Result, Variables>,
  variables: Variables,
  headers: Readonly<Record<string, string>> = {},
): Promise<Result> {
  const { body, type, patience } = packed({ query: document, variables });
  const response = await fetch("/graphql", {
    method: "POST",
    headers: {
      ...type,
      accept: "application/json",
      "accept-language": current.language,
      "x-escarcelle-client": "web",
      ...(speaker === null ? {} : { "x-escarcelle-user": speaker }),
      ...headers,
    },
    body,
    signal: AbortSignal.timeout(patience),
  });
  const answer: Answer<Result> = await response.json();
  if (answer.data == null || answer.errors !== undefined) {
    const [error] = answer.errors ?? [];
    const code = error?.extensions?.code;
    if (code !== undefined) for (const listener of listeners) listener(code);
    throw new Failed(error?.message ?? response.statusText, code);
  }
  return answer.data;
}

/** What is said where a question has had no answer. */
export function whyUnanswered(error: unknown): string {
  return error instanceof Failed ? error.message : say(["Le serveur ne répond pas.", "The server does not answer."]);
}

/** Have something done: the mutation's one field. Throws Refused, and what `ask` throws. */
export async function perform<Result extends object, Variables>(
  document: TypedDocument<Result, Variables>,
  variables: Variables,
  headers: Readonly<Record<string, string>> = {},
): Promise<Granted<Result>> {
  const [given] = Object.values(await ask(document, variables, headers)) as (Granted<Result> | Refusal)[];
  if (isRefusal(given)) throw new Refused(given);
  return given as Granted<Result>;
}

function isRefusal(given: unknown): given is Refusal {
  return typeof given === "object" && given !== null && (given as Partial<Refusal>).__typename === "Refusal";
}

/** As JSON; with files in it, as the multipart request specification has them. */
function packed(operation: { query: string; variables: unknown }): {
  body: BodyInit;
  type: Record<string, string>;
  patience: number;
} {
  const files: [string, File][] = [];
  const text = JSON.stringify(operation, function replaced(this: unknown, key: string, value: unknown) {
    return value instanceof File ? (files.push([key, value]), null) : value;
  });
  if (files.length === 0) return { body: text, type: { "content-type": "application/json" }, patience: PATIENCE };
  const form = new FormData();
  form.set("operations", text);
  form.set("map", JSON.stringify(Object.fromEntries(files.map(([name], n) => [n, [`variables.input.${name}`]]))));
  files.forEach(([, file], n) => form.set(String(n), file));
  return { body: form, type: {}, patience: PATIENCE_FOR_FILES };
}

interface Answer<Result> {
  data?: Result | null;
  errors?: { message: string; extensions?: { code?: string } }[];
}
