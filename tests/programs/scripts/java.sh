# the JVM: compiler, threads, faults that become exceptions, children, sockets, watched directories, two collectors
# needs: java javac
cat > H.java <<'X'
import java.io.*;
import java.net.*;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;

public class H {
    static void deeper(int i) { deeper(i + 1); }

    public static void main(String[] arguments) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(4);
        Future<Integer> sum = pool.submit(() -> { int s = 0; for (int i = 0; i < 10000000; i++) s += i % 7; return s; });
        System.out.println(sum.get());
        pool.shutdown();
        try { Object nothing = null; nothing.toString(); } catch (NullPointerException e) { System.out.println("null"); }
        try { deeper(0); } catch (StackOverflowError e) { System.out.println("too deep"); }
        List<byte[]> blocks = new ArrayList<>();
        for (int i = 0; i < 200; i++) { blocks.add(new byte[1 << 20]); if (blocks.size() > 50) blocks.clear(); }
        System.gc();
        Process child = new ProcessBuilder("echo", "child").start();
        System.out.println(new String(child.getInputStream().readAllBytes()).trim() + child.waitFor());
        ServerSocket server = new ServerSocket(0, 5, InetAddress.getLoopbackAddress());
        new Thread(() -> {
            try (Socket c = server.accept()) { c.getOutputStream().write("net".getBytes()); } catch (IOException e) { }
        }).start();
        try (Socket c = new Socket("127.0.0.1", server.getLocalPort())) {
            System.out.println(new String(c.getInputStream().readAllBytes()));
        }
        Path directory = Files.createTempDirectory("watched");
        WatchService watch = directory.getFileSystem().newWatchService();
        directory.register(watch, StandardWatchEventKinds.ENTRY_CREATE);
        Files.writeString(directory.resolve("file"), "x");
        System.out.println(watch.take().pollEvents().get(0).context());
        System.exit(4);
    }
}
X
for collector in Serial G1; do
    java -XX:+Use${collector}GC H.java 2>/dev/null
    echo $?
done
