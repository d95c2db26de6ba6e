using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using KvNode.Testing;

namespace KvNode.Conformance;

/// <summary>Large values, many connections, clients that do not read: bounded memory, and everybody else is served.</summary>
public sealed class LimitsTests
{
    private const int MiB = 1 << 20;

    [Fact]
    public void ValueOf64MiBGoesRoundAndOneByteMoreIsRefusedWithNothingChanged()
    {
        using var directory = new TempDirectory("limits");
        using var node = NodeProcess.Start(directory.Sub("data"));
        using var client = node.Connect(TimeSpan.FromSeconds(60));
        var value = new byte[64 * MiB];
        new Random(3).NextBytes(value);
        Assert.Equal("+OK", client.Text("SET", "big", value));
        Assert.True(value.AsSpan().SequenceEqual(client.Call("GET", "big").Bytes));
        Assert.Equal($":{value.Length}", client.Text("STRLEN", "big"));

        Assert.Equal("+OK", client.Text("SET", "small", "before"));
        var oversize = new byte[value.Length + 1];
        AssertRefused(node, ["SET", "small", oversize]);
        AssertRefused(node, ["MSET", "new", "x", "small", oversize, "other", "y"]);
        Assert.Equal("[\"before\", nil, nil]", client.Text("MGET", "small", "new", "other"));
        Assert.Equal(":2", client.Text("DBSIZE"));
    }

    [Fact]
    public void KeyOf64KiBIsAKeyAndOneByteMoreIsRefusedWithNothingChanged()
    {
        using var directory = new TempDirectory("limits");
        using var node = NodeProcess.Start(directory.Sub("data"));
        using var client = node.Connect();
        var longest = new byte[64 * 1024];
        Array.Fill(longest, (byte)'k');
        byte[] tooLong = [.. longest, (byte)'k'];
        Assert.Equal("+OK", client.Text("SET", longest, "v"));
        Assert.Equal("\"v\"", client.Text("GET", longest));
        Assert.Equal(longest, client.Call("KEYS", "*")[0].Bytes);
        AssertRefused(node, ["SET", tooLong, "v"]);
        AssertRefused(node, ["MSET", "a", "1", tooLong, "v"]);
        Assert.Equal(":1", client.Text("DBSIZE"));
        Assert.Equal(":1", client.Text("DEL", longest));
    }

    [Fact]
    public void MaxValueFlagMovesTheLimit()
    {
        using var directory = new TempDirectory("limits");
        using var node = NodeProcess.Start(directory.Sub("data"), "--max-value", "4kb");
        using var client = node.Connect();
        Assert.Equal("+OK", client.Text("SET", "a", new byte[4096]));
        AssertRefused(node, ["SET", "a", new byte[4097]]);
        Assert.Equal(":4096", client.Text("STRLEN", "a"));
    }

    [Fact]
    public void OneClientMoreThanMaxClientsIsToldSoAndClosed()
    {
        using var directory = new TempDirectory("limits");
        using var node = NodeProcess.Start(directory.Sub("data"), "--max-clients", "20");
        var clients = new List<RespClient>();
        WaitForNoClients(node);
        for (var i = 0; i < 20; i++)
        {
            clients.Add(node.Connect());
            Assert.Equal("+PONG", clients[i].Text("PING"));
        }

        using var refused = node.Connect();
        Assert.Equal("-ERR max number of clients reached\r\n", System.Text.Encoding.ASCII.GetString(refused.ReadToEnd()));
        clients[0].Dispose();
        WaitUntil(() => Answers(node), "a free place is not given to a new client");
        clients.ForEach(static client => client.Dispose());
    }

    [Fact]
    public void TenThousandIdleConnectionsCostLittleAndSlowNobody()
    {
        const int Count = 10_000;
        var files = Posix.RaiseOpenFileLimit();
        if (files < Count + 1000)
        {
            TestSkip.Because($"only {files} open files are allowed here");
        }

        using var directory = new TempDirectory("limits");
        using var node = NodeProcess.Start(directory.Sub("data"), "--max-clients", $"{Count + 100}");
        using var witness = node.Connect();
        _ = witness.Call("PING");
        var before = node.Process.PrivateMemoryBytes;
        var idle = new List<Socket>(Count);
        try
        {
            for (var i = 0; i < Count; i++)
            {
                idle.Add(ConnectAndPing(node.Port));
            }

            var worst = WorstPing(witness, 300);
            var grown = node.Process.PrivateMemoryBytes - before;
            Assert.True(worst < TimeSpan.FromMilliseconds(250), $"PING took {worst.TotalMilliseconds} ms");
            Assert.True(grown < 300L * MiB, $"{Count} connections took {grown / MiB} MiB");
            Assert.Equal("+OK", witness.Text("SET", "a", "1"));
            Assert.Equal($"+PONG\r\n", Ping(idle[Count / 2]));
        }
        finally
        {
            idle.ForEach(static socket => socket.Dispose());
        }

        WaitUntil(() => witness.Call("CLIENT", "LIST").Text.Count(c => c == '\n') == 1, "closed connections stay listed");
    }

    [Fact]
    public void ClientThatNeverReadsHugeKeysRepliesIsHeldAndOthersAreServed() =>
        FloodWithoutReading(client =>
        {
            for (var i = 0; i < 200; i++)
            {
                client.Send("KEYS", "*", "WITHVALUES");
            }
        });

    [Fact]
    public void ClientThatNeverReadsHugeMgetRepliesIsHeldAndOthersAreServed() =>
        FloodWithoutReading(client =>
        {
            RespArgument[] command = ["MGET", .. Enumerable.Range(0, 40).Select(i => (RespArgument)$"k{i:d4}")];
            for (var i = 0; i < 400; i++)
            {
                client.Send(command);
            }
        });

    [Fact]
    public void ClientThatNeverReadsButKeepsWritingIsHeld() =>
        FloodWithoutReading(client =>
        {
            var value = new byte[1000];
            for (var i = 0; i < 20_000; i++)
            {
                client.Send("ECHO", value);
            }
        });

    [Fact]
    public void KeysReplyLargerThanEveryBufferStreamsToAClientThatReads()
    {
        using var directory = new TempDirectory("limits");
        using var node = StartWithData(directory);
        using var client = node.Connect(TimeSpan.FromSeconds(60));
        var before = node.Process.PrivateMemoryBytes;
        var reply = client.Call("KEYS", "*", "WITHVALUES");
        Assert.Equal(2 * 1000, reply.Count);
        Assert.Equal(1000L * 100_000, reply.Items!.Where((_, i) => i % 2 == 1).Sum(value => (long)value.Bytes!.Length));
        var grown = node.Process.PrivateMemoryBytes - before;
        Assert.True(grown < 100L * MiB, $"a streamed reply of 100 MB took {grown / MiB} MiB");
    }

    /// <summary>Floods over three connections that read nothing, while a fourth works.</summary>
    private static void FloodWithoutReading(Action<RespClient> ask)
    {
        using var directory = new TempDirectory("limits");
        using var node = StartWithData(directory);
        using var witness = node.Connect();
        _ = WorstPing(witness, 10);
        var before = node.Process.PrivateMemoryBytes;
        var flood = Enumerable.Range(0, 3).Select(_ => node.Connect(TimeSpan.FromSeconds(2))).ToArray();
        var senders = flood.Select(client => new Thread(() => SendUntilStuck(client, ask))).ToArray();
        Array.ForEach(senders, sender => sender.Start());

        var most = 0L;
        for (var i = 0; i < 60; i++)
        {
            Assert.Equal("+OK", witness.Text("SET", "witness", $"{i}"));
            Assert.Equal($"\"{i}\"", witness.Text("GET", "witness"));
            most = Math.Max(most, node.Process.PrivateMemoryBytes - before);
            Thread.Sleep(25);
        }

        Array.ForEach(senders, sender => sender.Join());
        var worst = WorstPing(witness, 50);
        Array.ForEach(flood, client => client.Dispose());
        // Three times the output limit of 16 MiB, the query buffers, and what the collector has not given back yet.
        Assert.True(most < 250L * MiB, $"three clients that do not read took {most / MiB} MiB");
        Assert.True(worst < TimeSpan.FromSeconds(1), $"a reading client waited {worst.TotalMilliseconds} ms");
    }

    private static void SendUntilStuck(RespClient client, Action<RespClient> ask)
    {
        try
        {
            ask(client);
            client.Flush();
        }
        catch (Exception failure) when (failure is IOException or TimeoutException)
        {
            // Held back or disconnected: both are right.
        }
    }

    /// <summary>A node with 16 MiB of output per client and 1000 values of 100 kB.</summary>
    private static NodeProcess StartWithData(TempDirectory directory)
    {
        var node = NodeProcess.Start(
            directory.Sub("data"), "--max-value", "8mb", "--client-output-buffer", "16mb", "--query-buffer", "16mb");
        using var client = node.Connect();
        var value = new byte[100_000];
        for (var i = 0; i < 1000; i++)
        {
            Assert.Equal("+OK", client.Text("SET", $"k{i:d4}", value));
        }

        return node;
    }

    private static void AssertRefused(NodeProcess node, RespArgument[] command)
    {
        using var client = node.Connect(TimeSpan.FromSeconds(60));
        client.Send(command);
        try
        {
            client.Flush();
        }
        catch (EndOfStreamException)
        {
            // Refused before all of it was sent.
        }

        Assert.StartsWith("-ERR ", client.Read().ToString(), StringComparison.Ordinal);
    }

    private static TimeSpan WorstPing(RespClient client, int count)
    {
        var clock = Stopwatch.StartNew();
        var worst = TimeSpan.Zero;
        for (var i = 0; i < count; i++)
        {
            var from = clock.Elapsed;
            Assert.Equal("+PONG", client.Text("PING"));
            worst = clock.Elapsed - from > worst ? clock.Elapsed - from : worst;
        }

        return worst;
    }

    private static Socket ConnectAndPing(int port)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { ReceiveTimeout = 20_000 };
        socket.Connect(new IPEndPoint(IPAddress.Loopback, port));
        Assert.Equal("+PONG\r\n", Ping(socket));
        return socket;
    }

    private static string Ping(Socket socket)
    {
        _ = socket.Send("PING\r\n"u8);
        Span<byte> reply = stackalloc byte[64];
        return System.Text.Encoding.ASCII.GetString(reply[..socket.Receive(reply)]);
    }

    private static bool Answers(NodeProcess node)
    {
        using var client = node.Connect();
        try
        {
            return client.Text("PING") == "+PONG";
        }
        catch (EndOfStreamException)
        {
            return false;
        }
    }

    private static void WaitForNoClients(NodeProcess node) =>
        WaitUntil(
            () =>
            {
                using var client = node.Connect();
                return client.Call("CLIENT", "LIST").Text.Count(c => c == '\n') == 1;
            },
            "the starting client stays listed");

    private static void WaitUntil(Func<bool> happened, string otherwise)
    {
        var clock = Stopwatch.StartNew();
        while (!happened())
        {
            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(20), otherwise);
            Thread.Sleep(20);
        }
    }
}
