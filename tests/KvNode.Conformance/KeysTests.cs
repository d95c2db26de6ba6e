using KvNode.Testing;

namespace KvNode.Conformance;

/// <summary>KEYS with its options, PDEL and DELIF: what the node has and Redis has not.</summary>
public sealed class KeysTests(NodeFixture fixture) : IClassFixture<NodeFixture>
{
    /// <summary>On the keys <c>'' a a* a1 a2 ab b key key1 key2 kez z</c> and the bytes <c>c3 a9 31</c> and <c>ff</c>.</summary>
    public static TheoryData<string, string> Patterns { get; } = new()
    {
        { "KEYS key*", "key key1 key2" },
        { "KEYS key1", "key1" },
        { "KEYS nothing", "" },
        { "KEYS key?", "key1 key2" },
        { "KEYS ke[yz]", "key kez" },
        { "KEYS key[^1]", "key2" },
        { "KEYS key[1-2]", "key1 key2" },
        { "KEYS a\\*", "a*" },
        { "KEYS a\\*b", "" },
        { "KEYS [a-b]", "a b" },
        { "KEYS *1", "a1 key1 \u00e91" },
        { "KEYS key* LIMIT 2", "key key1" },
        { "KEYS key* LIMIT 0", "" },
        { "KEYS key* limit 100", "key key1 key2" },
        { "KEYS key* DESC", "key2 key1 key" },
        { "KEYS key* DESC LIMIT 1", "key2" },
        { "KEYS key* PIVOT key", "key1 key2" },
        { "KEYS key* PIVOT key1", "key2" },
        { "KEYS key* PIVOT key11", "key2" },
        { "KEYS key* PIVOT a", "key key1 key2" },
        { "KEYS key* PIVOT zz", "" },
        { "KEYS key* PIVOT ''", "key key1 key2" },
        { "KEYS key* PIVOT key1 DESC", "key" },
        { "KEYS key* PIVOT key2 DESC", "key1 key" },
        { "KEYS key* PIVOT zz DESC", "key2 key1 key" },
        { "KEYS key* PIVOT a DESC", "" },
        { "KEYS key* WITHVALUES", "key =key key1 =key1 key2 =key2" },
        { "KEYS key* WITHVALUES LIMIT 1", "key =key" },
        { "KEYS key* desc withvalues pivot key2", "key1 =key1 key =key" },
        { "KEYS key* LIMIT 9 LIMIT 1", "key" },
        { "KEYS key* PIVOT a PIVOT key1", "key2" },
        { "KEYS key1 PIVOT key", "key1" },
        { "KEYS key1 PIVOT key1", "" },
        { "KEYS a*", "a a* a1 a2 ab" },
        { "KEYS a* PIVOT a*", "a1 a2 ab" },
    };

    [Theory]
    [MemberData(nameof(Patterns))]
    public void KeysAnswersInByteOrder(string command, string expected)
    {
        using var client = Prepare();
        Assert.Equal(expected, string.Join(' ', client.Call(Words(command)).Texts()));
    }

    [Theory]
    [InlineData("KEYS * FOO")]
    [InlineData("KEYS * LIMIT")]
    [InlineData("KEYS * LIMIT x")]
    [InlineData("KEYS * LIMIT -1")]
    [InlineData("KEYS * LIMIT 1.5")]
    [InlineData("KEYS * LIMIT 99999999999999999999")]
    [InlineData("KEYS * PIVOT")]
    [InlineData("KEYS * DESC ASC")]
    [InlineData("KEYS * WITHVALUES 1")]
    [InlineData("KEYS * ''")]
    public void WrongKeysOptionIsASyntaxError(string command)
    {
        using var client = Prepare();
        Assert.Equal("-ERR syntax error", client.Text(Words(command)));
        Assert.Equal("+PONG", client.Text("PING"));
    }

    [Fact]
    public void KeysAndPivotTakeAnyBytes()
    {
        using var client = fixture.ConnectEmptied();
        byte[][] keys = [[], [0], [0, 0], [0, 255], [127], [128], [195, 169], [254], [255], [255, 0], [255, 255]];
        foreach (var key in keys.Reverse())
        {
            Assert.Equal("+OK", client.Text("SET", key, "v"));
        }

        Assert.Equal(keys, client.Call("KEYS", "*").Items!.Select(item => item.Bytes!));
        Assert.Equal(keys.Reverse(), client.Call("KEYS", "*", "DESC").Items!.Select(item => item.Bytes!));
        for (var i = 0; i < keys.Length; i++)
        {
            Assert.Equal(keys[(i + 1)..], client.Call("KEYS", "*", "PIVOT", keys[i]).Items!.Select(item => item.Bytes!));
            Assert.Equal(keys[..i].Reverse(), client.Call("KEYS", "*", "PIVOT", keys[i], "DESC").Items!.Select(item => item.Bytes!));
        }

        Assert.Equal("""["\xff", "\xff\x00", "\xff\xff"]""", client.Text("KEYS", new byte[] { 255, (byte)'*' }));
        Assert.Equal("""[""]""", client.Text("KEYS", ""));
    }

    [Fact]
    public void KeysHasNoSilentLimit()
    {
        using var client = fixture.ConnectEmptied();
        const int Count = 5000;
        for (var i = 0; i < Count; i++)
        {
            client.Send("SET", $"n{i:d6}", "v");
        }

        client.Flush();
        for (var i = 0; i < Count; i++)
        {
            Assert.Equal("+OK", client.Read().ToString());
        }

        Assert.Equal(Count, client.Call("KEYS", "*").Count);
        Assert.Equal(2 * Count, client.Call("KEYS", "*", "WITHVALUES").Count);
        Assert.Equal(Count, client.Call("KEYS", "*", "DESC").Count);
    }

    [Theory]
    [InlineData("key*", 3)]
    [InlineData("key1", 1)]
    [InlineData("nothing*", 0)]
    [InlineData("a\\*", 1)]
    [InlineData("*", 14)]
    [InlineData("", 1)]
    public void PdelAnswersTheNumberDeletedAndDeletesThose(string pattern, long expected)
    {
        using var client = Prepare();
        var before = client.Call("KEYS", "*").Texts();
        var matching = client.Call("KEYS", pattern).Texts();

        Assert.Equal($":{expected}", client.Text("PDEL", pattern));
        Assert.Equal(":0", client.Text("PDEL", pattern));
        Assert.Equal(before.Except(matching, StringComparer.Ordinal), client.Call("KEYS", "*").Texts());
        Assert.Equal($":{before.Length - expected}", client.Text("DBSIZE"));
    }

    [Fact]
    public void DelifDeletesKeysWhoseValueContainsTheNeedle()
    {
        using var client = fixture.ConnectEmptied();
        Assert.Equal("+OK", client.Text("MSET", "a", "one two", "b", "two", "c", "three", "d", "", "e", "t\0wo"));

        Assert.Equal(":2", client.Text("DELIF", "two", "a", "b", "c", "d", "missing"));
        Assert.Equal("[\"c\", \"d\", \"e\"]", client.Text("KEYS", "*"));
        Assert.Equal(":1", client.Text("DELIF", "t\0w", "e", "e"));
        Assert.Equal(":2", client.Text("DELIF", "", "c", "d", "missing"));
        Assert.Equal(":0", client.Text("DBSIZE"));
        Assert.Equal("-ERR wrong number of arguments for 'delif' command", client.Text("DELIF", "x"));
    }

    [Theory]
    [InlineData("PDEL")]
    [InlineData("PDEL a b")]
    [InlineData("DELIF")]
    [InlineData("KEYS")]
    [InlineData("RAFTLEADER x")]
    [InlineData("RAFTSTATE x")]
    [InlineData("RAFTSTATS x")]
    [InlineData("RAFTPEERS x")]
    [InlineData("RAFTSNAPSHOT x")]
    [InlineData("RAFTSHRINKLOG x")]
    public void WrongNumberOfArgumentsNamesTheCommandAsRedisDoes(string command)
    {
        using var client = fixture.Node.Connect();
        var name = command.Split(' ')[0];
        Assert.Equal($"-ERR wrong number of arguments for '{name.ToLowerInvariant()}' command", client.Text(Words(command)));
    }

    private RespClient Prepare()
    {
        var client = fixture.ConnectEmptied();
        string[] keys = ["z", "key2", "a1", "key", "b", "", "kez", "a", "ab", "key1", "a*", "a2"];
        foreach (var key in keys)
        {
            Assert.Equal("+OK", client.Text("SET", key, "=" + key));
        }

        Assert.Equal("+OK", client.Text("MSET", "\u00e91", "e", new byte[] { 255 }, "ff"));
        return client;
    }

    private static RespArgument[] Words(string command) =>
        [.. command.Split(' ').Select(static word => (RespArgument)(word == "''" ? "" : word))];
}
