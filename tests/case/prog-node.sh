#!/bin/sh
# SPDX-License-Identifier: MIT
# Node.js: fs.promises, streams, worker threads, child processes, fs.watch, ES modules.
. "$(dirname "$0")/lib.sh"

mkdir lib
echo 'export const value = 42;' >lib/module.mjs
echo 'module.exports = { name: "common" };' >lib/common.js
echo '{"name": "x", "version": "1.2.3"}' >package.json
seq 100000 >numbers

cat >all.mjs <<'END'
import { createHash } from "crypto";
import { exec, execFileSync, fork, spawn } from "child_process";
import fs from "fs";
import { createRequire } from "module";
import path from "path";
import { pipeline } from "stream/promises";
import { Worker, isMainThread, parentPort, workerData } from "worker_threads";
import { createGzip, gunzipSync } from "zlib";
import { promisify } from "util";
import { value } from "./lib/module.mjs";

const require = createRequire(import.meta.url);

async function main() {
	await fs.promises.mkdir("out/deep/er", { recursive: true });
	console.log(value, require("./lib/common.js").name, require("./package.json").version);
	await Promise.all([...Array(50).keys()].map(async (k) => {
		await fs.promises.writeFile(`out/f${k}`, "x".repeat(k * 1000));
		await fs.promises.appendFile(`out/f${k}`, "end");
	}));
	console.log((await fs.promises.readdir("out")).length, (await fs.promises.stat("out/f7")).size);
	const handle = await fs.promises.open("out/f3", "r+");
	await handle.write("middle", 1000);
	await handle.truncate(1006);
	await handle.sync();
	await handle.close();
	console.log(fs.readFileSync("out/f3", "latin1").slice(-10));

	await pipeline(fs.createReadStream("numbers"), createGzip({ level: 1 }), fs.createWriteStream("out/numbers.gz"));
	console.log(createHash("sha256").update(gunzipSync(fs.readFileSync("out/numbers.gz"))).digest("hex"));
	await pipeline(fs.createReadStream("numbers", { start: 10, end: 19 }), fs.createWriteStream("out/part"));

	const sums = await Promise.all([0, 1, 2].map((part) => new Promise((resolve, reject) => {
		const w = new Worker(new URL(import.meta.url), { workerData: { part } });
		w.on("message", resolve);
		w.on("error", reject);
	})));
	console.log(sums);

	console.log((await promisify(exec)("echo lower | tr a-z A-Z")).stdout.trim());
	console.log(execFileSync("sort", ["-rn"], { input: "1\n3\n2\n" }).toString().split("\n"));
	const child = fork(path.resolve("child.cjs"));
	console.log(await new Promise((resolve) => { child.on("message", resolve); child.send({ n: 20 }); }));
	await new Promise((resolve) => child.on("exit", resolve));
	const p = spawn("sh", ["-c", "echo out; echo err >&2; exit 5"]);
	let text = "";
	p.stdout.on("data", (d) => text += d);
	p.stderr.on("data", (d) => text += d);
	const status = await new Promise((resolve) => p.on("close", resolve));
	console.log(status, text.split("\n").sort());

	// An event of a process in the same view.
	const event = new Promise((resolve) => {
		const w = fs.watch("out/deep", (kind, name) => { w.close(); resolve(`${kind} ${name}`); });
		setImmediate(() => execFileSync("touch", ["out/deep/watched"]));
	});
	console.log(await event);
	await fs.promises.rename("out/deep/watched", "out/deep/er/moved");
	await fs.promises.copyFile("out/f7", "out/copy", fs.constants.COPYFILE_FICLONE);
	await fs.promises.cp("lib", "out/lib", { recursive: true });
	await fs.promises.symlink("copy", "out/soft");
	await fs.promises.link("out/copy", "out/hard");
	await fs.promises.utimes("out/copy", 1e9, 1e9);
	console.log((await fs.promises.lstat("out/hard")).nlink, await fs.promises.realpath("out/soft") === path.resolve("out/copy"));
	await fs.promises.rm("out/lib", { recursive: true });
	console.log(await fs.promises.access("out/lib").catch((e) => e.code));
	console.log(await fs.promises.open("out/copy", "wx").catch((e) => e.code));
	for await (const e of await fs.promises.opendir("out/deep"))
		console.log(e.name, e.isDirectory());
	const temporary = await fs.promises.mkdtemp("out/tmp-");
	await fs.promises.writeFile(path.join(temporary, "x"), "x");
	await fs.promises.rm(temporary, { recursive: true });
}

function work() {
	const lines = fs.readFileSync("numbers", "latin1").trim().split("\n").map(Number);
	parentPort.postMessage(lines.filter((n) => n % 3 === workerData.part).reduce((a, b) => a + b, 0));
}

if (isMainThread)
	await main();
else
	work();
END
cat >child.cjs <<'END'
process.on("message", ({ n }) => {
	const f = (k) => k < 2 ? k : f(k - 1) + f(k - 2);
	process.send({ fib: f(n) }, () => process.disconnect());
});
END
echo 'exec node all.mjs' >all.sh
like_native all.sh out
