using System.Text.Json.Nodes;
using KvNode.Server.Commands;
using KvNode.Server.Resp;
using KvNode.Storage;
using Xunit;

namespace KvNode.Server.Tests;

public class CommandScanTests
{
    [Theory]
    [InlineData("KEYS *", "a,key,key1,key2,kez,z")]
    [InlineData("keys key*", "key,key1,key2")]
    [InlineData("KEYS key1", "key1")]
    [InlineData("KEYS key3", "")]
    [InlineData("KEYS k?y", "key")]
    [InlineData("KEYS ke[yz]", "key,kez")]
    [InlineData("KEYS key* PIVOT a", "key,key1,key2")]
    [InlineData("KEYS key* PIVOT key", "key1,key2")]
    [InlineData("KEYS key* PIVOT key11", "key2")]
    [InlineData("KEYS key* PIVOT z", "")]
    [InlineData("KEYS key* DESC", "key2,key1,key")]
    [InlineData("KEYS key* DESC PIVOT z", "key2,key1,key")]
    [InlineData("KEYS key* DESC PIVOT key2", "key1,key")]
    [InlineData("KEYS key* DESC PIVOT key", "")]
    [InlineData("KEYS key* DESC PIVOT a", "")]
    [InlineData("KEYS * LIMIT 2", "a,key")]
    [InlineData("KEYS * LIMIT 0", "")]
    [InlineData("KEYS key1 LIMIT 0", "")]
    [InlineData("KEYS key1 PIVOT key1", "")]
    [InlineData("KEYS key1 PIVOT key0", "key1")]
    [InlineData("KEYS key1 PIVOT key0 DESC", "")]
    [InlineData("KEYS key1 PIVOT key2 DESC", "key1")]
    [InlineData("KEYS * LIMIT 9223372036854775807 PIVOT kez", "z")]
    [InlineData("KEYS * limit 1 pivot a desc LIMIT 2 PIVOT z", "kez,key2")]
    [InlineData("KEYS * PIVOT LIMIT LIMIT 1", "a")]
    [InlineData("KEYS * DESC DESC LIMIT 010", "z,kez,key2,key1,key,a")]
    public void KeysAnswersInByteOrderFromBehindThePivotOn(string line, string keys)
    {
        var runner = new CommandRunner();
        foreach (var key in (string[])["a", "key", "key1", "key2", "kez", "z"])
        {
            runner.Store.Put(key, "v" + key);
        }

        var expected = keys.Length == 0 ? [] : keys.Split(',');
        Assert.Equal(Array(expected), runner.Run(line));
        Assert.Equal(0, runner.Store.OpenCursors);
        Assert.Equal(Array(expected.SelectMany(key => (string[])[key, "v" + key])), runner.Run(line + " WITHVALUES"));
    }

    [Theory]
    [InlineData("KEYS", "-ERR wrong number of arguments for 'keys' command\r\n")]
    [InlineData("KEYS * FOO", "-ERR syntax error\r\n")]
    [InlineData("KEYS * LIMIT", "-ERR syntax error\r\n")]
    [InlineData("KEYS * PIVOT", "-ERR syntax error\r\n")]
    [InlineData("KEYS * LIMIT x", "-ERR syntax error\r\n")]
    [InlineData("KEYS * LIMIT -1", "-ERR syntax error\r\n")]
    [InlineData("KEYS * LIMIT 1.5", "-ERR syntax error\r\n")]
    [InlineData("KEYS * LIMIT 9223372036854775808", "-ERR syntax error\r\n")]
    [InlineData("KEYS * LIMIT 1 DESC PIVOT", "-ERR syntax error\r\n")]
    [InlineData("KEYS * WITHVALUES b", "-ERR syntax error\r\n")]
    [InlineData("PDEL", "-ERR wrong number of arguments for 'pdel' command\r\n")]
    [InlineData("PDEL a b", "-ERR wrong number of arguments for 'pdel' command\r\n")]
    public void BadOptionsAreRefused(string line, string reply) => Assert.Equal(reply, new CommandRunner().Run(line));

    [Theory]
    [InlineData(2, "*6\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$0\r\n\r\n$1\r\nh\r\n$-1\r\n", "*2\r\n$1\r\nh\r\n$-1\r\n")]
    [InlineData(3,
        "*3\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n*2\r\n$1\r\nb\r\n$0\r\n\r\n*2\r\n$1\r\nh\r\n_\r\n", "*1\r\n*2\r\n$1\r\nh\r\n_\r\n")]
    public void ValuesComeFlatInResp2AndAsPairsInResp3(int protocol, string all, string one)
    {
        var runner = new CommandRunner(protocol);
        runner.Store.Put("a", "1");
        runner.Store.Put("b", "");
        runner.Store.Put("h", "fields", ValueTag.Hash);
        Assert.Equal(all, runner.Run("KEYS * WITHVALUES"));
        Assert.Equal(one, runner.Run("KEYS h WITHVALUES"));
    }

    [Fact]
    public void TheEmptyKeyAndKeysOfHighBytesAreFound()
    {
        var runner = new CommandRunner();
        foreach (var key in (string[])["", "\0", "\u00FF", "\u00FF\u00FF", "\u00FFa"])
        {
            runner.Store.Put(key, "v");
        }

        Assert.Equal(Array([""]), runner.Run(Wire.Bytes("KEYS"), []));
        Assert.Equal(Array(["\u00FF", "\u00FFa", "\u00FF\u00FF"]), runner.Run("KEYS \u00FF*"));
        Assert.Equal(Array(["\u00FF\u00FF", "\u00FFa", "\u00FF", "\0", ""]), runner.Run("KEYS * DESC"));
        Assert.Equal(Array(["\0", "\u00FF", "\u00FFa", "\u00FF\u00FF"]), runner.Run("KEYS * PIVOT \"\""));
        Assert.Equal(Array([]), runner.Run("KEYS * DESC PIVOT \"\""));
    }

    [Fact]
    public void ABackslashTakesAWildcardLiterally()
    {
        var runner = new CommandRunner();
        runner.Store.Put("a*b", "1");
        runner.Store.Put("axb", "1");
        Assert.Equal(Array(["a*b"]), runner.Run("KEYS a\\*b"));
        Assert.Equal(":1\r\n", runner.Run("PDEL a\\*b"));
        Assert.Equal("1", runner.Store.Find("axb"));
    }

    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    public void KeysAgreesWithANaiveModelOnRandomKeyspaces(int protocol)
    {
        var random = new Random(20_260);
        for (var round = 0; round < 60; round++)
        {
            var runner = new CommandRunner(protocol);
            for (var i = random.Next(60); i > 0; i--)
            {
                runner.Store.Put(RandomText(random, "ab\0\u00FF", 4), RandomText(random, "xyz", 3));
            }

            for (var query = 0; query < 40; query++)
            {
                Compare(runner, random, protocol);
            }

            Assert.Equal(0, runner.Store.OpenCursors);
        }
    }

    [Fact]
    public void PdelDeletesWhatKeysFindsAndCountsIt()
    {
        var random = new Random(77);
        for (var round = 0; round < 300; round++)
        {
            var runner = new CommandRunner();
            for (var i = random.Next(40); i > 0; i--)
            {
                runner.Store.Put(RandomText(random, "ab\0\u00FF", 4), "v");
            }

            var pattern = RandomPattern(random);
            var spared = runner.Store.Keys.Where(key => !KeyPattern.Matches(pattern, key));
            var left = spared.Select(key => Wire.Text(key)).ToArray();
            var deleted = runner.Store.Count - left.Length;
            Assert.Equal($":{deleted}\r\n", runner.Run(Wire.Bytes("PDEL"), pattern));
            Assert.Equal(left, runner.Store.Keys.Select(key => Wire.Text(key)));
        }
    }

    [Theory]
    [InlineData("PDEL k*", 5000)]
    [InlineData("PDEL k?0*", 499)]
    [InlineData("PDEL *", 5001)]
    public void PdelWorksInStretchesWhateverTheNumber(string line, int deleted)
    {
        var runner = new CommandRunner();
        runner.Store.Put("other", "v");
        for (var i = 0; i < 5000; i++)
        {
            runner.Store.Put($"k{i}", "v");
        }

        Assert.Equal($":{deleted}\r\n", runner.Run(line));
        Assert.Equal(5001 - deleted, runner.Store.Count);
    }

    [Fact]
    public void PdelCopesWithKeysLargerThanAStretch()
    {
        var runner = new CommandRunner();
        for (var i = 0; i < 20; i++)
        {
            runner.Store.Put($"k{i:D2}" + new string('x', StoreLimits.KeyBytesMax - 3), "v");
        }

        Assert.Equal(":20\r\n", runner.Run("PDEL k*"));
    }

    [Theory]
    [InlineData("KEYS *", 30_000, 30_001)]
    [InlineData("KEYS k*", 30_000, 60_000)]
    [InlineData("KEYS * PIVOT j", 30_000, 60_000)]
    [InlineData("KEYS * DESC WITHVALUES", 30_000, 30_001)]
    [InlineData("KEYS k*5 WITHVALUES", 3_000, 60_000)]
    [InlineData("KEYS k*5 DESC WITHVALUES", 3_000, 60_000)]
    [InlineData("KEYS k001* WITHVALUES", 100, 100)]
    [InlineData("KEYS k*5 WITHVALUES LIMIT 20", 20, 200)]
    [InlineData("KEYS * LIMIT 7 PIVOT k15000", 7, 7)]
    public void ALargeAnswerStreamsInBoundedMemory(string line, int keys, int visitsMax)
    {
        var runner = new CommandRunner();
        for (var i = 0; i < 30_000; i++)
        {
            runner.Store.Put($"k{i:D5}", new string('v', 40));
        }

        var withValues = line.Contains("WITHVALUES", StringComparison.Ordinal);
        var reply = Wire.ToJson(runner.Run(line)).AsArray();
        Assert.Equal(withValues ? keys * 2 : keys, reply.Count);
        var names = reply.Where((_, i) => !withValues || i % 2 == 0).Select(node => (string)node!).ToArray();
        var sorted = names.Order(StringComparer.Ordinal);
        Assert.Equal(line.Contains("DESC", StringComparison.Ordinal) ? sorted.Reverse() : sorted, names);
        Assert.Equal(keys, names.Distinct().Count());
        Assert.InRange(runner.Store.Visited, keys, visitsMax);
        Assert.InRange(runner.GatheredMax, 0, KeyScan.DrainBytes + KeyScan.GatherBytesMax);
        Assert.Equal(keys * (withValues ? 60 : 12) > KeyScan.DrainBytes + KeyScan.GatherBytesMax, runner.Drains > 1);
    }

    [Fact]
    public void ValuesLargerThanWhatIsKeptAreAnsweredWhole()
    {
        var runner = new CommandRunner();
        var large = new string('x', KeyScan.GatherBytesMax + 1);
        runner.Store.Put("a", "small");
        runner.Store.Put("b", large);
        runner.Store.Put("c", "small");
        Assert.Equal(Array(["a", "small", "b", large, "c", "small"]), runner.Run("KEYS ?* WITHVALUES"));
        Assert.Equal(Array(["c", "small", "b", large, "a", "small"]), runner.Run("KEYS ?* WITHVALUES DESC"));
        Assert.Equal(Array(["b", large]), runner.Run("KEYS b* WITHVALUES"));
    }

    [Theory]
    [InlineData("KEYS k*nothing")]
    [InlineData("KEYS k*7777")]
    [InlineData("KEYS *")]
    [InlineData("KEYS k*")]
    public void ALongScanHandsTheThreadBackInBetween(string line)
    {
        using var store = new FakeKeyspace();
        for (var i = 0; i < 9000; i++)
        {
            store.Put($"k{i:D5}", "v");
        }

        using var reply = new RespWriter();
        var words = line.Split(' ').Select(Wire.Bytes).ToArray();
        Assert.True(CommandTable.Default.TryFind("KEYS"u8, out var spec));

        // Continuations queue up here instead of going to the thread pool, so each stretch can be measured.
        var stretches = new StretchQueue();
        var before = SynchronizationContext.Current;
        SynchronizationContext.SetSynchronizationContext(stretches);
        try
        {
            var work = ((StreamCommand)spec).Run(new StreamContext(words, store, reply, () => Drained(reply)));
            var visited = 0L;
            var count = 0;
            do
            {
                Assert.InRange(store.Visited - visited, 0, KeyScan.VisitsMax);
                visited = store.Visited;
                count++;
            }
            while (stretches.TryRunOne());

            Assert.True(work.IsCompletedSuccessfully);
            Assert.True(count >= 4, $"{count} stretches");
        }
        finally
        {
            SynchronizationContext.SetSynchronizationContext(before);
        }
    }

    [Fact]
    public async Task AStuckClientEndsTheScanAndItsCursor()
    {
        using var store = new FakeKeyspace();
        for (var i = 0; i < 9000; i++)
        {
            store.Put($"k{i:D5}", "v");
        }

        using var reply = new RespWriter();
        Assert.True(CommandTable.Default.TryFind("KEYS"u8, out var spec));
        var context = new StreamContext(
            [Wire.Bytes("KEYS"), Wire.Bytes("k*")], store, reply, () => throw new OperationCanceledException());
        await Assert.ThrowsAsync<OperationCanceledException>(async () => await ((StreamCommand)spec).Run(context));
        Assert.Equal(0, store.OpenCursors);
    }

    private static ValueTask Drained(RespWriter reply)
    {
        reply.Reset();
        return ValueTask.CompletedTask;
    }

    private static void Compare(CommandRunner runner, Random random, int protocol)
    {
        var pattern = RandomPattern(random);
        List<byte[]> words = [Wire.Bytes("KEYS"), pattern];
        byte[]? pivot = null;
        var limit = int.MaxValue;
        bool descending = random.Next(2) == 0, withValues = random.Next(2) == 0;
        if (random.Next(2) == 0)
        {
            pivot = Wire.Bytes(RandomText(random, "ab\0\u00FF", 4));
            words.AddRange([Wire.Bytes("PIVOT"), pivot]);
        }

        if (random.Next(2) == 0)
        {
            limit = random.Next(6);
            words.AddRange([Wire.Bytes("LIMIT"), Wire.Bytes($"{limit}")]);
        }

        words.AddRange(descending ? [Wire.Bytes("DESC")] : []);
        words.AddRange(withValues ? [Wire.Bytes("WITHVALUES")] : []);

        var keys = runner.Store.Keys.Where(key => KeyPattern.Matches(pattern, key));
        keys = descending ? keys.Reverse() : keys;
        keys = keys.Where(key => pivot is null || (key.AsSpan().SequenceCompareTo(pivot) > 0) != descending);
        keys = keys.Where(key => pivot is null || !key.AsSpan().SequenceEqual(pivot)).Take(limit);
        var expected = new JsonArray();
        foreach (var key in keys.Select(key => Wire.Text(key)))
        {
            var value = runner.Store.Find(key);
            if (withValues && protocol == 3)
            {
                expected.Add(new JsonArray(key, value));
                continue;
            }

            expected.Add(key);
            if (withValues)
            {
                expected.Add(value);
            }
        }

        var reply = Wire.ToJson(runner.Run([.. words]));
        Assert.Equal(expected.ToJsonString(), reply.ToJsonString());
    }

    private static byte[] RandomPattern(Random random)
    {
        string[] elements = ["a", "b", "\0", "\u00FF", "*", "*", "?", "[ab]", "[^a]", "[\0-a]", "\\a", "[]"];
        var count = random.Next(5);
        return Wire.Bytes(string.Concat(Enumerable.Range(0, count).Select(_ => elements[random.Next(elements.Length)])));
    }

    private static string RandomText(Random random, string alphabet, int lengthMax) =>
        string.Concat(Enumerable.Range(0, random.Next(lengthMax + 1)).Select(_ => alphabet[random.Next(alphabet.Length)]));

    private static string Array(IEnumerable<string> items)
    {
        var all = items.ToArray();
        return $"*{all.Length}\r\n" + string.Concat(all.Select(item => $"${item.Length}\r\n{item}\r\n"));
    }

    private sealed class StretchQueue : SynchronizationContext
    {
        private readonly Queue<(SendOrPostCallback Callback, object? State)> _waiting = [];

        public override void Post(SendOrPostCallback d, object? state) => _waiting.Enqueue((d, state));

        public bool TryRunOne()
        {
            if (!_waiting.TryDequeue(out var next))
            {
                return false;
            }

            next.Callback(next.State);
            return true;
        }
    }
}
