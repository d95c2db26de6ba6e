using System.Diagnostics;
using System.Text;
using KvNode.Testing;

namespace KvNode.Conformance;

/// <summary>Garbage, half frames, oversize headers: an error or a closed connection, and nobody else notices.</summary>
public sealed class HostileInputTests(NodeFixture fixture) : IClassFixture<NodeFixture>
{
    [Fact]
    public void RandomBytesNeverStopTheNodeNorChangeAnything()
    {
        Seeds.Run(nameof(RandomBytesNeverStopTheNodeNorChangeAnything), random =>
        {
            using var witness = fixture.ConnectEmptied();
            Assert.Equal("+OK", witness.Text("SET", "witness", "here"));
            for (var round = 0; round < 400; round++)
            {
                var garbage = new byte[random.Next(1, 3000)];
                random.NextBytes(garbage);
                // No line of pure noise may spell a command that writes; a star or dollar begins structured noise.
                garbage[0] = (byte)"*$+\0\xff\r\n:"[random.Next(8)];
                Throw(garbage);
                if (round % 20 == 0)
                {
                    AssertUnharmed(witness);
                }
            }

            AssertUnharmed(witness);
        });
    }

    [Fact]
    public void BrokenCommandsNeverStopTheNode()
    {
        Seeds.Run(nameof(BrokenCommandsNeverStopTheNode), random =>
        {
            using var witness = fixture.ConnectEmptied();
            Assert.Equal("+OK", witness.Text("SET", "witness", "here"));
            for (var round = 0; round < 600; round++)
            {
                Throw(Broken(random));
                if (round % 20 == 0)
                {
                    AssertUnharmed(witness);
                }
            }

            AssertUnharmed(witness);
        });
    }

    [Fact]
    public void BulkHeaderOf513MiBIsRefusedAtOnceWithRedissText()
    {
        using var client = fixture.Node.Connect();
        client.SendRaw("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$537919488\r\n"u8);
        client.Flush();
        Assert.Equal("-ERR Protocol error: invalid bulk length\r\n", Encoding.ASCII.GetString(client.ReadToEnd()));
    }

    [Fact]
    public void HugeHeadersAloneHoldNoMemory()
    {
        using var witness = fixture.ConnectEmptied();
        var before = fixture.Node.Process.PrivateMemoryBytes;
        var clients = Enumerable.Range(0, 40).Select(_ => fixture.Node.Connect()).ToArray();
        foreach (var client in clients)
        {
            // A full 512 MiB is announced, four bytes of it come.
            client.SendRaw("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$536870912\r\nabcd"u8);
            client.Flush();
        }

        Assert.Equal("+PONG", witness.Text("PING"));
        var after = fixture.Node.Process.PrivateMemoryBytes;
        Array.ForEach(clients, client => client.Dispose());
        Assert.True(after - before < 64 << 20, $"40 headers took {(after - before) >> 20} MiB");
    }

    [Fact]
    public void HalfCommandsAndSlowWritersHoldUpNobody()
    {
        using var witness = fixture.ConnectEmptied();
        var slow = Enumerable.Range(0, 300).Select(_ => fixture.Node.Connect()).ToArray();
        var bytes = "*3\r\n$3\r\nSET\r\n$4\r\nslow\r\n$10\r\n0123456789\r\n"u8.ToArray();
        var clock = Stopwatch.StartNew();
        var slowest = TimeSpan.Zero;
        for (var sent = 0; sent < bytes.Length - 1; sent++)
        {
            foreach (var client in slow)
            {
                client.SendRaw(bytes.AsSpan(sent, 1));
                client.Flush();
            }

            var from = clock.Elapsed;
            Assert.Equal("+OK", witness.Text("SET", "fast", $"{sent}"));
            Assert.Equal($"\"{sent}\"", witness.Text("GET", "fast"));
            slowest = TimeSpan.FromTicks(Math.Max(slowest.Ticks, (clock.Elapsed - from).Ticks));
        }

        Assert.True(slowest < TimeSpan.FromSeconds(2), $"a client waited {slowest.TotalMilliseconds} ms");
        foreach (var client in slow)
        {
            client.SendRaw(bytes.AsSpan(bytes.Length - 1));
            client.Flush();
            Assert.Equal("+OK", client.Read().ToString());
            client.Dispose();
        }
    }

    [Fact]
    public void ClientsThatVanishInTheMiddleOfACommandLeaveNothing()
    {
        using var witness = fixture.ConnectEmptied();
        for (var i = 0; i < 200; i++)
        {
            using var client = fixture.Node.Connect();
            client.Send("SET", "whole", $"{i}");
            client.SendRaw("*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$10\r\n01234"u8);
            client.Flush();
            if (i % 2 == 0)
            {
                Assert.Equal("+OK", client.Read().ToString());
                client.Socket.LingerState = new System.Net.Sockets.LingerOption(true, 0);
            }
        }

        Assert.Equal(":0", witness.Text("EXISTS", "half"));
        WaitForClients(witness, 1);
    }

    private static void WaitForClients(RespClient witness, int count)
    {
        var clock = Stopwatch.StartNew();
        while (true)
        {
            var list = witness.Call("CLIENT", "LIST").Text.Split('\n', StringSplitOptions.RemoveEmptyEntries);
            if (list.Length == count)
            {
                return;
            }

            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(20), $"{list.Length} clients are still listed, expected {count}");
            Thread.Sleep(20);
        }
    }

    private void AssertUnharmed(RespClient witness)
    {
        Assert.False(fixture.Node.Process.HasExited, fixture.Node.ErrorText);
        Assert.Equal("\"here\"", witness.Text("GET", "witness"));
    }

    /// <summary>Sends, ends the sending half, and reads to the end: the node must answer or close, never hang.</summary>
    private void Throw(byte[] bytes)
    {
        using var client = fixture.Node.Connect(TimeSpan.FromSeconds(10));
        client.SendRaw(bytes);
        try
        {
            client.Flush();
            client.Socket.Shutdown(System.Net.Sockets.SocketShutdown.Send);
        }
        catch (Exception failure) when (failure is IOException or System.Net.Sockets.SocketException)
        {
            // Closed already; the replies before that are still read.
        }

        _ = client.ReadToEnd();
    }

    private static byte[] Broken(Random random)
    {
        string[] words = ["GET", "SET", "KEYS", "MGET", "EXISTS", "PING", "ECHO", "HELLO", "CLIENT", "COMMAND", "CONFIG", "INFO", "DEL"];
        string[] lengths = ["0", "1", "-1", "-2", "3", "2147483647", "2147483648", "-2147483649", "9223372036854775807", "x", "", " 1", "1 ", "00001", "+1", "1e3"];
        var text = new StringBuilder();
        for (var command = random.Next(1, 5); command > 0; command--)
        {
            var count = random.Next(1, 5);
            text.Append('*').Append(random.Next(8) == 0 ? lengths[random.Next(lengths.Length)] : $"{count}").Append("\r\n");
            for (var i = 0; i < count; i++)
            {
                var word = i == 0 ? words[random.Next(words.Length)] : new string('k', random.Next(20));
                text.Append('$').Append(random.Next(8) == 0 ? lengths[random.Next(lengths.Length)] : $"{word.Length}").Append("\r\n");
                text.Append(word).Append("\r\n");
            }
        }

        var bytes = Encoding.ASCII.GetBytes(text.ToString());
        for (var flips = random.Next(3); flips > 0; flips--)
        {
            bytes[random.Next(bytes.Length)] = (byte)random.Next(256);
        }

        return bytes[..random.Next(1, bytes.Length + 1)];
    }
}
