using System.Text;
using KvNode.Testing;

namespace KvNode.Conformance;

/// <summary>The real redis-cli and redis-benchmark, as users run them.</summary>
public sealed class RedisCliTests(NodeFixture fixture) : IClassFixture<NodeFixture>
{
    /// <summary>What is typed after <c>redis-cli -p PORT</c>, and exactly what it prints.</summary>
    public static TheoryData<string, string> Dialogs { get; } = new()
    {
        { "SET a 1|GET a|DEL a|GET a", "OK|1|1||" },
        { "--no-raw GET nothing|--no-raw SET a 1|--no-raw GET a|--no-raw EXISTS a a", "(nil)|OK|\"1\"|(integer) 2|" },
        { "MSET key1 1 key2 2 key3 3|KEYS key*|KEYS key* DESC LIMIT 2", "OK|key1|key2|key3|key3|key2|" },
        { "MSET key1 1 key2 2|--no-raw KEYS key* WITHVALUES", "OK|1) \"key1\"|2) \"1\"|3) \"key2\"|4) \"2\"|" },
        { "MSET key1 1 key2 2 key3 3|--no-raw KEYS * PIVOT key1|--no-raw KEYS * PIVOT key3", "OK|1) \"key2\"|2) \"key3\"|(empty array)|" },
        { "MSET a 1 b 2|PDEL *|DBSIZE", "OK|2|0|" },
        { "--csv MGET a b|--csv MSET a x b 2|--csv MGET a b", "NULL,NULL|\"OK\"|\"x\",\"2\"|" },
        { "-3 --no-raw GET nothing|-3 --no-raw PING", "(nil)|PONG|" },
        { "--no-raw GET|--no-raw KEYS * LIMIT x", "(error) ERR wrong number of arguments for 'get' command|(error) ERR syntax error|" },
        { "-n 0 PING|-r 3 PING|ECHO hello|TYPE a|STRLEN a|SELECT 0", "PONG|PONG|PONG|PONG|hello|none|0|OK|" },
        { "RAFTSTATE|CLIENT GETNAME|CONFIG GET save", "Leader||save||" },
    };

    [Theory]
    [MemberData(nameof(Dialogs))]
    public void RedisCliPrintsExactly(string commands, string expected)
    {
        using var flush = fixture.ConnectEmptied();
        var printed = new StringBuilder();
        foreach (var command in commands.Split('|'))
        {
            printed.Append(Tool.Run("redis-cli", ["-p", $"{fixture.Node.Port}", .. command.Split(' ')]).Text);
        }

        Assert.Equal(expected.Replace('|', '\n'), printed.ToString());
    }

    [Fact]
    public void RedisCliReadsCommandsFromStandardInput()
    {
        using var flush = fixture.ConnectEmptied();
        var script = "SET a \"two words\"\nGET a\nset b 2\nKEYS *\nNOSUCH\nDBSIZE\n";
        var result = Tool.RunOk("redis-cli", ["-p", $"{fixture.Node.Port}"], Encoding.ASCII.GetBytes(script));
        Assert.Equal("OK\ntwo words\nOK\na\nb\nERR unknown command 'NOSUCH', with args beginning with: \n\n2\n", result.Text);
    }

    [Fact]
    public void RedisCliTakesAValueFromStandardInput()
    {
        using var client = fixture.ConnectEmptied();
        var value = new byte[300_000];
        new Random(1).NextBytes(value);
        Assert.Equal("OK\n", Tool.RunOk("redis-cli", ["-p", $"{fixture.Node.Port}", "-x", "SET", "blob"], value).Text);
        Assert.Equal(value, client.Call("GET", "blob").Bytes);
    }

    [Theory]
    [InlineData("-t", "ping_inline,ping_mbulk,set,get,mset", "-P", "1")]
    [InlineData("-t", "set,get", "-P", "16")]
    [InlineData("-t", "set,get", "-P", "64")]
    public void RedisBenchmarkRunsWithoutComplaint(params string[] arguments)
    {
        using var client = fixture.ConnectEmptied();
        var result = Tool.RunOk(
            "redis-benchmark",
            ["-p", $"{fixture.Node.Port}", "-c", "20", "-n", "20000", "-r", "1000", "-d", "100", "--csv", .. arguments]);
        var rows = result.Text.Split('\n', StringSplitOptions.RemoveEmptyEntries).Skip(1).ToArray();
        Assert.Equal(arguments[1].Split(',').Length, rows.Length);
        Assert.DoesNotContain("rror", result.Errors, StringComparison.Ordinal);
        Assert.DoesNotContain("WARN", result.Errors, StringComparison.OrdinalIgnoreCase);
        Assert.InRange(client.Call("DBSIZE").Integer, 1, 3000);
    }

    [Fact]
    public void PipeRestoresAMillionKeys()
    {
        using var client = fixture.ConnectEmptied();
        const int Count = 1_000_000;
        var result = Tool.RunFrom(
            "redis-cli", ["-p", $"{fixture.Node.Port}", "--pipe"], new SetCommandStream(Count), TimeSpan.FromSeconds(180));
        Assert.True(result.ExitCode == 0, result.Errors + result.Text);
        Assert.Contains($"errors: 0, replies: {Count}", result.Text, StringComparison.Ordinal);
        Assert.Equal(Count, client.Call("DBSIZE").Integer);

        var random = new Random(7);
        for (var i = 0; i < 1000; i++)
        {
            var number = random.Next(Count);
            Assert.Equal(SetCommandStream.Value(number), client.Call("GET", SetCommandStream.Key(number)).Text);
        }

        Assert.Equal($"[\"{SetCommandStream.Key(0)}\"]", client.Text("KEYS", "*", "LIMIT", "1"));
        Assert.Equal($"[\"{SetCommandStream.Key(Count - 1)}\"]", client.Text("KEYS", "*", "LIMIT", "1", "DESC"));
        Assert.Equal("+OK", client.Text("FLUSHALL"));
        Assert.Equal(":0", client.Text("DBSIZE"));
    }

    [Fact]
    public void PipeCountsErrorsAndGoesOn()
    {
        using var client = fixture.ConnectEmptied();
        var input = "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n*2\r\n$3\r\nSET\r\n$1\r\na\r\n*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$1\r\n2\r\n"u8.ToArray();
        var result = Tool.Run("redis-cli", ["-p", $"{fixture.Node.Port}", "--pipe"], input);
        Assert.Contains("errors: 1, replies: 3", result.Text, StringComparison.Ordinal);
        Assert.Equal("[\"1\", \"2\"]", client.Text("MGET", "a", "b"));
    }
}
