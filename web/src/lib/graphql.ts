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

/** Ask the server. Throws Failed for an answer without data, TypeError when there is no answer. */
export async function ask<Result, Variables>(
  document: TypedDocument<Result, Variables>,
  variables: Variables,
): Promise<Result> {
  const response = await fetch("/graphql", {
    method: "POST",
    headers: { "content-type": "application/json", accept: "application/json", "x-escarcelle-client": "web" },
    body: JSON.stringify({ query: document, variables }),
  });
  const answer: Answer<Result> = await response.json();
  if (answer.data == null) {
    const [error] = answer.errors ?? [];
    throw new Failed(error?.message ?? response.statusText, error?.extensions?.code);
  }
  return answer.data;
}

interface Answer<Result> {
  data?: Result | null;
  errors?: { message: string; extensions?: { code?: string } }[];
}
