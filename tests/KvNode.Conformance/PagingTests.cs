using KvNode.Testing;

namespace KvNode.Conformance;

/// <summary>Paging with PIVOT covers every key exactly once, whatever is written around them.</summary>
public sealed class PagingTests(NodeFixture fixture) : IClassFixture<NodeFixture>
{
    private const int Count = 20_000;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void PivotPagesCoverEveryKeyOnceWhileOthersWriteElsewhere(bool descending)
    {
        Seeds.Run(nameof(PivotPagesCoverEveryKeyOnceWhileOthersWriteElsewhere), random =>
        {
            using var client = fixture.ConnectEmptied();
            var keys = FillRandomKeys(client, random);
            var stop = false;
            var writers = Enumerable.Range(0, 3).Select(number => new Thread(() => WriteElsewhere(number, ref stop))).ToArray();
            Array.ForEach(writers, writer => writer.Start());
            try
            {
                for (var round = 0; round < 3; round++)
                {
                    Assert.Equal(descending ? keys.Reverse() : keys, Page(client, random.Next(1, 700), descending));
                }
            }
            finally
            {
                Volatile.Write(ref stop, true);
                Array.ForEach(writers, writer => writer.Join());
            }
        });
    }

    [Fact]
    public void PageBySinglePivotAmongManyKeysIsQuick()
    {
        using var client = fixture.ConnectEmptied();
        _ = FillRandomKeys(client, new Random(5));
        var clock = System.Diagnostics.Stopwatch.StartNew();
        const int Pages = 500;
        for (var i = 0; i < Pages; i++)
        {
            Assert.Equal(100, client.Call("KEYS", "p:*", "PIVOT", $"p:{(char)('0' + (i % 8))}", "LIMIT", "100").Count);
        }

        // A page costs what it holds, not what the keyspace holds: far from a scan of all keys each.
        Assert.True(clock.Elapsed.TotalMilliseconds / Pages < 20, $"{clock.Elapsed.TotalMilliseconds / Pages} ms a page");
    }

    private static IEnumerable<string> Page(RespClient client, int limit, bool descending)
    {
        var pivot = descending ? "p;" : "p:";
        while (true)
        {
            RespArgument[] command = ["KEYS", "p:*", "PIVOT", pivot, "LIMIT", (long)limit];
            var page = client.Call(descending ? [.. command, "DESC"] : command).Texts();
            foreach (var key in page)
            {
                yield return key;
            }

            if (page.Length < limit)
            {
                yield break;
            }

            pivot = page[^1];
        }
    }

    private static string[] FillRandomKeys(RespClient client, Random random)
    {
        var keys = new SortedSet<string>(StringComparer.Ordinal);
        while (keys.Count < Count)
        {
            keys.Add($"p:{random.NextInt64():x16}"[..random.Next(6, 14)]);
        }

        foreach (var key in keys.OrderBy(_ => random.Next()))
        {
            client.Send("SET", key, "v");
        }

        client.Flush();
        for (var i = 0; i < Count; i++)
        {
            Assert.Equal("+OK", client.Read().ToString());
        }

        return [.. keys];
    }

    private void WriteElsewhere(int number, ref bool stop)
    {
        using var client = fixture.Node.Connect(TimeSpan.FromSeconds(60));
        string[] prefixes = ["a:", "o:", "q:", "p;", "p9~", "p/"];
        for (var i = 0; !Volatile.Read(ref stop); i++)
        {
            var prefix = prefixes[i % prefixes.Length];
            for (var k = 0; k < 20; k++)
            {
                client.Send("SET", $"{prefix}{number}:{k}", $"{i}");
            }

            client.Send("PDEL", $"{prefix}{number}:1*");
            client.Flush();
            for (var k = 0; k < 21; k++)
            {
                Assert.False(client.Read().IsError);
            }
        }
    }
}
