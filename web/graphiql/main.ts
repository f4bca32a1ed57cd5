// GraphiQL, with everything that it needs from this server. It signs in as any client does: by the session's cookie, or
// by a token in its headers, {"authorization": "Bearer …"}.
import "graphiql/setup-workers/vite";
import { GraphiQL } from "graphiql";
import "graphiql/style.css";
import { Kind, OperationTypeNode, parse, type ExecutionResult } from "graphql";
import { createClient } from "graphql-ws";
import { createElement } from "react";
import { createRoot } from "react-dom/client";
import "./page.css";

type Parameters = { query: string; operationName?: string | null; variables?: Record<string, unknown> | null };
type Options = { headers?: Record<string, unknown> };

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
  return isSubscription(parameters) ? listen(parameters, headers) : send(parameters, headers);
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

/** By the text itself: what GraphiQL says of it lags behind what is typed. */
function isSubscription({ query, operationName }: Parameters): boolean {
  return parse(query).definitions.some(
    (one) =>
      one.kind === Kind.OPERATION_DEFINITION &&
      one.operation === OperationTypeNode.SUBSCRIPTION &&
      (operationName == null || one.name?.value === operationName),
  );
}

const target = document.getElementById("graphiql");
if (target === null) throw new Error("index.html has a place for GraphiQL");
createRoot(target).render(
  createElement(GraphiQL, { fetcher, defaultQuery: START, defaultEditorToolsVisibility: "headers" }),
);
