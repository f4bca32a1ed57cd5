// GraphiQL, with everything that it needs from this server. It signs in as any client does: by the session's cookie, or
// by a token in its headers, {"authorization": "Bearer …"}.
import "graphiql/setup-workers/vite";
import { GraphiQL } from "graphiql";
import "graphiql/style.css";
import type { ExecutionResult } from "graphql";
import { createClient } from "graphql-ws";
import { createElement } from "react";
import { createRoot } from "react-dom/client";
import "./page.css";

type Parameters = { query: string; operationName?: string | null; variables?: Record<string, unknown> | null };
type Options = { headers?: Record<string, unknown>; documentAST?: { definitions: readonly Definition[] } };
type Definition = { kind: string; operation?: string; name?: { value: string } | undefined };

const START = `# Who asks: the session of this browser, or
# {"authorization": "Bearer …"} among the headers.

{
  viewer {
    user {
      name
    }
  }
}
`;

function fetcher(parameters: Parameters, options?: Options) {
  const headers = Object.fromEntries(
    Object.entries(options?.headers ?? {}).map(([name, value]) => [name.toLowerCase(), String(value)]),
  );
  return isSubscription(parameters, options) ? listen(parameters, headers) : send(parameters, headers);
}

async function send(parameters: Parameters, headers: Record<string, string>) {
  const response = await fetch("/graphql", {
    method: "POST",
    headers: {
      accept: "application/json",
      "content-type": "application/json",
      "x-escarcelle-client": "graphiql",
      ...headers,
    },
    body: JSON.stringify(parameters),
  });
  return response.json();
}

function listen(parameters: Parameters, headers: Record<string, string>) {
  const token = /^bearer\s+(\S+)$/i.exec(headers["authorization"] ?? "")?.[1];
  const client = createClient({
    url: new URL("/graphql", location.href).href.replace(/^http/, "ws"),
    ...(token === undefined ? {} : { connectionParams: { token } }),
  });
  return client.iterate(parameters) as AsyncIterableIterator<ExecutionResult>;
}

function isSubscription({ operationName }: Parameters, options?: Options): boolean {
  return (options?.documentAST?.definitions ?? []).some(
    ({ operation, name }) => operation === "subscription" && (operationName == null || name?.value === operationName),
  );
}

const target = document.getElementById("graphiql");
if (target === null) throw new Error("index.html has a place for GraphiQL");
createRoot(target).render(
  createElement(GraphiQL, { fetcher, defaultQuery: START, defaultEditorToolsVisibility: "headers" }),
);
