// One call with @grpc/grpc-js; prints its code and the number of its messages. Run by the command `grpc-js`.
// clients.js ADDRESS PROTO METHOD REQUEST DEADLINE_S|- [cancel]
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [address, proto, method, request, deadline, cancel] = process.argv.slice(2);
const root = grpc.loadPackageDefinition(loader.loadSync(proto));
const client = new root.compute.v1.ComputeService(address, grpc.credentials.createInsecure());
const options = deadline === "-" ? {} : { deadline: Date.now() + Number(deadline) * 1000 };
let pieces = 0;

function end(code) {
  console.log(JSON.stringify({ code, pieces }));
  client.close();
}

if (method === "Generate") {
  client.generate(JSON.parse(request), options, (error) => {
    pieces = error ? 0 : 1;
    end(error ? error.code : 0);
  });
} else {
  const call = client.generateStream(JSON.parse(request), options);
  call.on("data", () => {
    pieces += 1;
    if (cancel) call.cancel();
  });
  call.on("error", () => {});
  call.on("status", (status) => end(status.code));
}
