using KvNode.Testing;

namespace KvNode.Conformance;

/// <summary>Deep pipelines: order, and each read sees the writes before it and none after it.</summary>
public sealed class PipeliningTests(NodeFixture fixture) : IClassFixture<NodeFixture>
{
    [Fact]
    public void HundredThousandCommandsInOnePipelineAnswerInOrder()
    {
        using var client = fixture.ConnectEmptied();
        client.Timeout = TimeSpan.FromSeconds(60);
        const int Count = 100_000;
        var sending = new Thread(() =>
        {
            for (var i = 0; i < Count; i++)
            {
                client.Send("ECHO", $"{i}");
                if (i % 1000 == 999)
                {
                    client.Flush();
                }
            }
        });
        sending.Start();
        for (var i = 0; i < Count; i++)
        {
            Assert.Equal($"{i}", client.Read().Text);
        }

        sending.Join();
    }

    /// <summary>A reply over what a batch gathers before it puts replies aside must not overtake those of the batch before.</summary>
    [Fact]
    public void LongRepliesDoNotOvertakeShortOnes()
    {
        fixture.ConnectEmptied().Dispose();
        var value = new string('v', 1_500_000);
        Exception? failure = null;
        var threads = Enumerable.Range(0, 4).Select(number => new Thread(() =>
        {
            try
            {
                using var client = fixture.Node.Connect(TimeSpan.FromSeconds(60));
                for (var round = 0; round < 25; round++)
                {
                    client.Send("SET", $"k{number}", value);
                    client.Send("GET", $"k{number}");
                    client.Send("DEL", $"k{number}");
                    client.Flush();
                    Assert.Equal("OK", client.Read().Text);
                    Assert.Equal(value.Length, client.Read().Text.Length);
                    Assert.Equal(":1", client.Read().ToString());
                }
            }
            catch (Exception caught)
            {
                Interlocked.CompareExchange(ref failure, caught, null);
            }
        })).ToArray();
        Array.ForEach(threads, thread => thread.Start());
        Array.ForEach(threads, thread => thread.Join());
        Assert.Null(failure);
    }

    [Fact]
    public void EachReadOfAPipelineSeesTheWritesBeforeItAndNoneAfter()
    {
        Seeds.Run(nameof(EachReadOfAPipelineSeesTheWritesBeforeItAndNoneAfter), random =>
        {
            using var client = fixture.ConnectEmptied();
            var model = new SortedDictionary<string, string>(StringComparer.Ordinal);
            for (var round = 0; round < 60; round++)
            {
                RunMixedPipeline(client, "", model, random, depth: random.Next(1, 400));
            }
        });
    }

    [Fact]
    public void ManyConnectionsWithMixedPipelinesDoNotDisturbEachOther()
    {
        Seeds.Run(nameof(ManyConnectionsWithMixedPipelinesDoNotDisturbEachOther), random =>
        {
            using var flush = fixture.ConnectEmptied();
            var seeds = Enumerable.Range(0, 24).Select(_ => random.Next()).ToArray();
            Exception? failure = null;
            var threads = seeds.Select((seed, number) => new Thread(() =>
            {
                try
                {
                    var own = new Random(seed);
                    using var client = fixture.Node.Connect(TimeSpan.FromSeconds(60));
                    var model = new SortedDictionary<string, string>(StringComparer.Ordinal);
                    for (var round = 0; round < 25; round++)
                    {
                        RunMixedPipeline(client, $"c{number:d2}:", model, own, depth: own.Next(1, 120));
                    }
                }
                catch (Exception caught)
                {
                    Interlocked.CompareExchange(ref failure, caught, null);
                }
            })).ToArray();
            Array.ForEach(threads, thread => thread.Start());
            Array.ForEach(threads, thread => thread.Join());
            Assert.Null(failure);
        });
    }

    [Fact]
    public void WritesOfOneConnectionAreSeenByAnotherOnceAnswered()
    {
        using var writer = fixture.ConnectEmptied();
        using var reader = fixture.Node.Connect();
        for (var i = 0; i < 2000; i++)
        {
            Assert.Equal("+OK", writer.Text("SET", "counter", $"{i}"));
            Assert.Equal($"\"{i}\"", reader.Text("GET", "counter"));
        }
    }

    [Fact]
    public void CommandsSplitAtEveryByteAnswerTheSame()
    {
        using var client = fixture.ConnectEmptied();
        var bytes = "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$5\r\nhello\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\nPING\r\n"u8.ToArray();
        for (var cut = 1; cut < bytes.Length; cut++)
        {
            client.SendRaw(bytes.AsSpan(0, cut));
            client.Flush();
            client.SendRaw(bytes.AsSpan(cut));
            client.Flush();
            Assert.Equal("+OK", client.Read().ToString());
            Assert.Equal("\"hello\"", client.Read().ToString());
            Assert.Equal("+PONG", client.Read().ToString());
        }
    }

    [Fact]
    public void QuitInAPipelineDeliversEveryEarlierReplyThenOkThenEnds()
    {
        using var client = fixture.ConnectEmptied();
        client.Send("SET", "a", "1");
        client.Send("GET", "a");
        client.Send("MSET", "b", "2", "c", "3");
        client.Send("KEYS", "*");
        client.Send("QUIT");
        client.Send("SET", "after", "quit");
        client.Flush();
        var replies = System.Text.Encoding.ASCII.GetString(client.ReadToEnd());
        Assert.Equal("+OK\r\n$1\r\n1\r\n+OK\r\n*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n+OK\r\n", replies);

        using var other = fixture.Node.Connect();
        Assert.Equal("nil", other.Text("GET", "after"));
    }

    [Fact]
    public void ErrorInsideAPipelineLeavesItsNeighboursAlone()
    {
        using var client = fixture.ConnectEmptied();
        client.Send("SET", "a", "1");
        client.Send("SET", "a");
        client.Send("NOSUCH");
        client.Send("KEYS", "*", "LIMIT", "x");
        client.Send("GET", "a");
        client.Flush();
        Assert.Equal("+OK", client.Read().ToString());
        Assert.Equal("-ERR wrong number of arguments for 'set' command", client.Read().ToString());
        Assert.StartsWith("-ERR unknown command 'NOSUCH'", client.Read().ToString(), StringComparison.Ordinal);
        Assert.Equal("-ERR syntax error", client.Read().ToString());
        Assert.Equal("\"1\"", client.Read().ToString());
    }

    private static void RunMixedPipeline(
        RespClient client, string prefix, SortedDictionary<string, string> model, Random random, int depth)
    {
        var expected = new string[depth];
        for (var i = 0; i < depth; i++)
        {
            expected[i] = SendRandom(client, prefix, model, random);
        }

        client.Flush();
        for (var i = 0; i < depth; i++)
        {
            Assert.Equal(expected[i], client.Read().ToString());
        }
    }

    private static string SendRandom(
        RespClient client, string prefix, SortedDictionary<string, string> model, Random random)
    {
        string Key() => $"{prefix}{random.Next(30):d2}";
        string Quoted(string key) => model.TryGetValue(key, out var value) ? $"\"{value}\"" : "nil";

        var (one, two) = (Key(), Key());
        HistoryWrite write;
        switch (random.Next(10))
        {
            case 0 or 1:
                write = new HistoryWrite(WriteKind.Set, [one], [$"{random.Next()}"]);
                break;
            case 2:
                write = new HistoryWrite(WriteKind.MultiSet, [one, two], [$"{random.Next()}", $"{random.Next()}"]);
                break;
            case 3:
                write = new HistoryWrite(WriteKind.Delete, [one, two], []);
                break;
            case 4 when random.Next(4) == 0:
                write = new HistoryWrite(WriteKind.PatternDelete, [$"{prefix}{random.Next(3)}"], []);
                break;
            case 5 when random.Next(3) == 0:
                client.Send("KEYS", $"{prefix}*");
                return $"[{string.Join(", ", model.Keys.Select(key => $"\"{key}\""))}]";
            case 6:
                client.Send("EXISTS", one, two);
                return $":{(model.ContainsKey(one) ? 1 : 0) + (model.ContainsKey(two) ? 1 : 0)}";
            case 7:
                client.Send("MGET", one, two);
                return $"[{Quoted(one)}, {Quoted(two)}]";
            default:
                client.Send("GET", one);
                return Quoted(one);
        }

        client.Send(write.Command());
        return write.ApplyTo(model);
    }
}
