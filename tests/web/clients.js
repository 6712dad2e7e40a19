// Calls with a client of Connect or gRPC-Web from npm, one after the other; prints for each its gRPC code, the number of its
// messages and which backend it was told of. Run by the command `web-clients`.
// clients.js URL DESCRIPTORS CLIENT CALLS, the last as JSON: [{method, request, timeoutMs?, cancel?}]
const fs = require("fs");
const protobuf = require("@bufbuild/protobuf");
const { FileDescriptorSetSchema } = require("@bufbuild/protobuf/wkt");
const connect = require("@connectrpc/connect");
const node = require("@connectrpc/connect-node");
const web = require("@connectrpc/connect-web");

const [baseUrl, descriptors, kind, calls] = process.argv.slice(2);
const files = protobuf.createFileRegistry(protobuf.fromBinary(FileDescriptorSetSchema, fs.readFileSync(descriptors)));
const service = files.getService("compute.v1.ComputeService");
const gzip = { sendCompression: node.compressionGzip, compressMinBytes: 0 };
const transports = {
  "connect-node-json": () => node.createConnectTransport({ baseUrl, httpVersion: "1.1", useBinaryFormat: false }),
  "connect-node-gzip": () => node.createConnectTransport({ baseUrl, httpVersion: "1.1", ...gzip }),
  "connect-node-h2": () => node.createConnectTransport({ baseUrl, httpVersion: "2" }),
  "connect-web": () => web.createConnectTransport({ baseUrl, useBinaryFormat: true }),
  "grpc-web-node-gzip": () => node.createGrpcWebTransport({ baseUrl, httpVersion: "2", ...gzip }),
  "grpc-web-fetch": () => web.createGrpcWebTransport({ baseUrl }),
};

function localName(method) {
  return method[0].toLowerCase() + method.slice(1);
}

async function callConnect(client, { method, request, timeoutMs, cancel }) {
  const leave = new AbortController();
  const outcome = { code: 0, pieces: 0, backend: null };
  const onHeader = (head) => (outcome.backend = head.get("x-backend-used"));
  const options = { timeoutMs, signal: leave.signal, onHeader };
  const description = service.method[localName(method)];
  const answer = client[localName(method)](protobuf.fromJson(description.input, request), options);
  try {
    if (description.methodKind === "server_streaming") {
      for await (const _ of answer) {
        outcome.pieces += 1;
        if (cancel) leave.abort();
      }
    } else {
      await answer;
      outcome.pieces = 1;
    }
  } catch (error) {
    outcome.code = connect.ConnectError.from(error).code;
  }
  return outcome;
}

// Google's own client asks for XMLHttpRequest, as it is in browsers.
function callGoogle(google, { method, request, timeoutMs, cancel }) {
  const { input, output, methodKind } = service.method[localName(method)];
  const path = `/${service.typeName}/${method}`;
  const type = methodKind === "server_streaming" ? google.MethodType.SERVER_STREAMING : google.MethodType.UNARY;
  const write = (one) => protobuf.toBinary(input, one);
  const read = (bytes) => protobuf.fromBinary(output, bytes);
  const descriptor = new google.MethodDescriptor(path, type, Object, Object, write, read);
  const metadata = timeoutMs === undefined ? {} : { deadline: String(Date.now() + timeoutMs) };
  const message = protobuf.fromJson(input, request);
  const client = new google.GrpcWebClientBase({ format: "text" });
  const outcome = { code: 0, pieces: 0, backend: null };
  return new Promise((resolve) => {
    const end = (error) => resolve({ ...outcome, code: error ? error.code : outcome.code });
    let call;
    if (type === google.MethodType.UNARY) {
      call = client.rpcCall(baseUrl + path, message, metadata, descriptor, (error) => {
        outcome.pieces = error ? 0 : 1;
        setTimeout(end, 0, error);
      });
    } else {
      call = client.serverStreaming(baseUrl + path, message, metadata, descriptor);
      call.on("data", () => {
        outcome.pieces += 1;
        if (!cancel) return;
        call.cancel(); // it says nothing more of a call that it gave up itself
        end({ code: 1 });
      });
      call.on("error", end);
      call.on("end", () => end(null));
    }
    call.on("metadata", (found) => (outcome.backend = found["x-backend-used"] ?? outcome.backend));
  });
}

async function run() {
  let call;
  if (kind === "grpc-web-google-text") {
    global.XMLHttpRequest = require("xmlhttprequest").XMLHttpRequest;
    const google = require("grpc-web");
    call = (one) => callGoogle(google, one);
  } else {
    const client = connect.createClient(service, transports[kind]());
    call = (one) => callConnect(client, one);
  }
  const outcomes = [];
  for (const one of JSON.parse(calls)) outcomes.push(await call(one));
  console.log(JSON.stringify(outcomes));
  process.exit(0);
}

run();
