#!/bin/sh
# SPDX-License-Identifier: MIT
# Java: javac, jar, and a program with mapped files, file locks, directory watching, processes and threads; class data
# sharing; the performance data that every virtual machine maps in /tmp is no reason not to store.
. "$(dirname "$0")/lib.sh"

mkdir -p src/p
cat >src/p/Main.java <<'END'
package p;

import java.io.*;
import java.nio.*;
import java.nio.channels.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.nio.file.attribute.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;

public class Main {
	public static void main(String[] args) throws Exception {
		Path out = Files.createDirectories(Path.of("out/deep")).getParent();
		Path mapped = out.resolve("mapped");
		try (FileChannel c = FileChannel.open(mapped, StandardOpenOption.CREATE_NEW, StandardOpenOption.READ,
				StandardOpenOption.WRITE)) {
			MappedByteBuffer m = c.map(FileChannel.MapMode.READ_WRITE, 0, 1 << 16);
			m.putInt(0, 0x01020304);
			m.put(65535, (byte) 7);
			m.force();
			ByteBuffer b = ByteBuffer.allocate(4);
			c.read(b, 0);
			System.out.println(b.getInt(0) == 0x01020304);
			try (FileLock l = c.lock(0, 10, false)) {
				System.out.println(l.isValid() + " " + l.isShared());
				try {
					c.lock(5, 1, false);
				} catch (OverlappingFileLockException e) {
					System.out.println("overlaps");
				}
			}
			Process p = new ProcessBuilder("sh", "-c", "wc -c <out/mapped").redirectErrorStream(true).start();
			System.out.println(new String(p.getInputStream().readAllBytes()).trim() + " " + p.waitFor());
		}
		try (WatchService w = FileSystems.getDefault().newWatchService()) {
			out.resolve("deep").register(w, StandardWatchEventKinds.ENTRY_CREATE);
			Files.writeString(out.resolve("deep/new"), "new");
			WatchKey k = w.poll(60, TimeUnit.SECONDS);
			System.out.println(k.pollEvents().get(0).context());
		}
		ExecutorService pool = Executors.newFixedThreadPool(4);
		List<Future<Integer>> all = new ArrayList<>();
		for (int i = 0; i < 20; i++) {
			int n = i;
			all.add(pool.submit(() -> {
				Files.writeString(out.resolve("f" + n), "x".repeat(n));
				return n;
			}));
		}
		int sum = 0;
		for (Future<Integer> f : all)
			sum += f.get();
		pool.shutdown();
		System.out.println(sum);
		Files.copy(mapped, out.resolve("copy"), StandardCopyOption.COPY_ATTRIBUTES);
		Files.move(out.resolve("f3"), out.resolve("deep/moved"), StandardCopyOption.ATOMIC_MOVE);
		Files.createSymbolicLink(out.resolve("soft"), Path.of("copy"));
		Files.createLink(out.resolve("hard"), out.resolve("copy"));
		Files.setPosixFilePermissions(out.resolve("f4"), PosixFilePermissions.fromString("r--------"));
		Files.setLastModifiedTime(out.resolve("f4"), FileTime.fromMillis(1000000000000L));
		Files.setAttribute(out.resolve("f5"), "user:note", "yes".getBytes());
		System.out.println(Files.getAttribute(out.resolve("hard"), "unix:nlink"));
		try (RandomAccessFile r = new RandomAccessFile("out/f10", "rw")) {
			r.seek(5);
			r.write("middle".getBytes());
			r.setLength(11);
		}
		System.out.println(Files.readString(out.resolve("f10")));
		Path t = Files.createTempFile(out, "t", ".tmp");
		Files.delete(t);
		try (Stream<Path> s = Files.walk(out)) {
			System.out.println(s.map(Path::toString).sorted().collect(Collectors.joining(" ")));
		}
		try (InputStream in = Main.class.getResourceAsStream("/resource.txt")) {
			System.out.print(new String(in.readAllBytes(), StandardCharsets.UTF_8));
		}
	}
}
END
echo resource >src/resource.txt
cat >build.sh <<'END'
set -e
javac -d classes src/p/*.java
cp src/resource.txt classes/
jar --create --date=2024-01-01T00:00:00Z --file app.jar --main-class p.Main -C classes .
jar --list --file app.jar | sort
END
say "javac and jar"
like_native build.sh classes app.jar
say "the program"
echo 'exec java -jar app.jar' >run.sh
like_native run.sh out
say "class data sharing: an archive made in one step is used by the next"
cat >cds.sh <<'END'
java -XX:ArchiveClassesAtExit=app.jsa -jar app.jar >/dev/null 2>&1 && rm -r out
END
rm -rf out
miss -- sh cds.sh
rm app.jsa
hit -- sh cds.sh
java -Xshare:on -XX:SharedArchiveFile=app.jsa -jar app.jar >"$IO/native"
rm -r out
miss -- java -Xshare:on -XX:SharedArchiveFile=app.jsa -jar app.jar
cmp "$IO/native" "$IO/out"
rm -r out
hit -- java -Xshare:on -XX:SharedArchiveFile=app.jsa -jar app.jar
cmp "$IO/native" "$IO/out"
