using KvNode.Testing;

namespace KvNode.Conformance;

/// <summary>INFO, CONFIG, CLIENT, COMMAND, HELLO and the RAFT commands: replies that are the node's own.</summary>
public sealed class NodeCommandsTests(NodeFixture fixture) : IClassFixture<NodeFixture>
{
    private static readonly string[] OwnCommands =
    [
        "SET", "GET", "MSET", "MGET", "DEL", "EXISTS", "PDEL", "DELIF", "KEYS", "DBSIZE", "FLUSHDB", "FLUSHALL", "PING",
        "ECHO", "QUIT", "SHUTDOWN", "SELECT", "TYPE", "STRLEN", "COMMAND", "INFO", "CONFIG", "HELLO", "CLIENT",
        "RAFTSNAPSHOT", "RAFTLEADER", "RAFTSTATE", "RAFTSTATS", "RAFTPEERS", "RAFTSHRINKLOG",
    ];

    [Theory]
    [InlineData("", "server clients memory persistence stats replication keyspace commandstats raft")]
    [InlineData("server", "server")]
    [InlineData("RAFT", "raft")]
    [InlineData("keyspace", "keyspace")]
    [InlineData("all", "server clients memory persistence stats replication keyspace commandstats raft")]
    public void InfoHasTheSectionsAsked(string section, string expected)
    {
        using var client = fixture.ConnectEmptied();
        _ = client.Call("SET", "a", "1");
        var info = section.Length == 0 ? client.Call("INFO") : client.Call("INFO", section);
        var found = info.Text.Split("\r\n").Where(line => line.StartsWith("# ", StringComparison.Ordinal))
            .Select(line => line[2..].ToLowerInvariant()).ToArray();
        var optional = section.Length == 0 ? new[] { "commandstats" } : [];
        Assert.Empty(expected.Split(' ').Except(found, StringComparer.Ordinal).Except(optional, StringComparer.Ordinal));
        Assert.True(section is "" or "all" || found.Length == 1, info.Text);
    }

    [Fact]
    public void InfoFieldsAreRedissNamesAndTrue()
    {
        using var client = fixture.ConnectEmptied();
        Assert.Equal("+OK", client.Text("MSET", "a", "1", "b", "2", "c", "3"));
        _ = client.Call("GET", "a");
        _ = client.Call("GET", "nothing");
        var info = Info(client, "all");

        Assert.Equal($"{fixture.Node.Port}", info["tcp_port"]);
        Assert.Equal($"{fixture.Node.Process.Pid}", info["process_id"]);
        Assert.Equal("1", info["connected_clients"]);
        Assert.Equal("master", info["role"]);
        Assert.StartsWith("keys=3,", info["db0"], StringComparison.Ordinal);
        Assert.Contains("calls=", info["cmdstat_get"], StringComparison.Ordinal);
        string[] names =
        [
            "uptime_in_seconds", "used_memory", "total_connections_received", "total_commands_processed",
            "keyspace_hits", "keyspace_misses", "total_net_input_bytes", "total_net_output_bytes", "rejected_connections",
        ];
        Assert.All(names, name => Assert.True(long.Parse(info[name]) >= 0));
        Assert.True(long.Parse(info["keyspace_hits"]) >= 1);
        Assert.True(long.Parse(info["keyspace_misses"]) >= 1);
    }

    [Fact]
    public void ConfigGetAnswersPairsByPatternOfAnyCase()
    {
        using var client = fixture.Node.Connect();
        var all = client.Call("CONFIG", "GET", "*");
        Assert.True(all.Count > 4 && all.Count % 2 == 0);
        Assert.Equal("[\"save\", \"\"]", client.Text("CONFIG", "GET", "save"));
        Assert.Equal("appendonly", client.Call("config", "get", "APPENDONLY")[0].Text);
        Assert.Equal(4, client.Call("CONFIG", "GET", "save", "appendonly").Count);
    }

    [Fact]
    public void ClientCommandsKnowTheirConnection()
    {
        using var first = fixture.Node.Connect();
        using var second = fixture.Node.Connect();
        var id = first.Call("CLIENT", "ID").Integer;
        Assert.True(second.Call("CLIENT", "ID").Integer > id);
        Assert.Equal("+OK", first.Text("CLIENT", "SETNAME", "first"));
        Assert.Equal("+OK", first.Text("CLIENT", "SETINFO", "LIB-NAME", "tests"));
        Assert.Equal("+OK", first.Text("CLIENT", "SETINFO", "lib-ver", "1.2"));
        Assert.True(first.Call("CLIENT", "SETINFO", "LIB-FOO", "x").IsError);

        var own = first.Call("CLIENT", "INFO").Text;
        Assert.Contains($"id={id} ", own, StringComparison.Ordinal);
        Assert.Contains(" name=first ", own, StringComparison.Ordinal);
        Assert.Contains($" laddr=127.0.0.1:{fixture.Node.Port} ", own, StringComparison.Ordinal);
        Assert.Contains("lib-name=tests", own, StringComparison.Ordinal);
        var listed = second.Call("CLIENT", "LIST").Text.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(2, listed.Length);
        Assert.Single(listed, line => line.Contains(" name=first ", StringComparison.Ordinal));
    }

    [Fact]
    public void CommandDescribesEveryCommandOfTheNode()
    {
        using var client = fixture.Node.Connect();
        var rows = client.Call("COMMAND");
        var names = rows.Items!.Select(row => row[0].Text).ToArray();
        Assert.Equal(rows.Count, client.Call("COMMAND", "COUNT").Integer);
        Assert.Empty(OwnCommands.Except(names, StringComparer.OrdinalIgnoreCase));
        // As Redis does, LIST names subcommands too.
        Assert.Equal(
            names.Order(StringComparer.Ordinal),
            client.Call("COMMAND", "LIST").Texts().Where(static name => !name.Contains('|')).Order(StringComparer.Ordinal));
        Assert.All(rows.Items!, row => Assert.Equal(10, row.Count));

        var docs = client.Call("COMMAND", "DOCS");
        Assert.Equal(2 * rows.Count, docs.Count);
        Assert.All(OwnCommands, name => Assert.NotNull(docs.Field(name.ToLowerInvariant())?.Field("summary")));
        Assert.NotNull(client.Call("COMMAND", "DOCS", "GET").Field("get")?.Field("arguments"));
    }

    [Fact]
    public void UnknownCommandsOfTheTableAreAbsentAndEveryRowAnswers()
    {
        using var client = fixture.ConnectEmptied();
        foreach (var name in OwnCommands.Except(["SHUTDOWN", "QUIT"], StringComparer.Ordinal))
        {
            Assert.DoesNotContain("unknown command", client.Text(name), StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("2")]
    [InlineData("3")]
    public void HelloAnswersRedissFieldsAndSwitchesTheProtocol(string version)
    {
        using var client = fixture.Node.Connect();
        var hello = client.Call("HELLO", version);
        Assert.Equal(version == "3" ? '%' : '*', hello.Type);
        Assert.Equal(version, hello.Field("proto")?.Text);
        Assert.Equal("master", hello.Field("role")?.Text);
        string[] fields = ["server", "version", "id", "mode", "modules"];
        Assert.All(fields, name => Assert.NotNull(hello.Field(name)));
        Assert.Equal(version == "3" ? "_" : "nil", client.Text("GET", "nothing"));
    }

    [Fact]
    public void HelloWithoutVersionKeepsTheProtocolAndSetnameNames()
    {
        using var client = fixture.Node.Connect();
        Assert.Equal("2", client.Call("HELLO").Field("proto")?.Text);
        Assert.Equal('%', client.Call("HELLO", "3", "SETNAME", "me").Type);
        Assert.Equal('%', client.Call("HELLO").Type);
        Assert.Equal("\"me\"", client.Text("CLIENT", "GETNAME"));
        Assert.Equal('*', client.Call("HELLO", "2").Type);
    }

    [Fact]
    public void Resp3HasMapsNullsAndVerbatimText()
    {
        using var client = fixture.ConnectEmptied();
        _ = client.Call("HELLO", "3");
        Assert.Equal("+OK", client.Text("SET", "a", "1"));
        Assert.Equal("[\"1\", _]", client.Text("MGET", "a", "b"));
        Assert.Equal("[[\"a\", \"1\"]]", client.Text("KEYS", "*", "WITHVALUES"));
        Assert.Equal('%', client.Call("CONFIG", "GET", "save").Type);
        Assert.Equal('=', client.Call("INFO", "server").Type);
        Assert.StartsWith("txt:", client.Call("CLIENT", "LIST").Text, StringComparison.Ordinal);
        Assert.Equal('%', client.Call("COMMAND", "DOCS", "GET").Type);
        Assert.Equal('~', client.Call("COMMAND", "INFO", "GET")[0][2].Type);
        Assert.Equal('%', client.Call("RAFTSTATS").Type);
        Assert.Equal("[_]", client.Text("COMMAND", "INFO", "nosuch"));
    }

    [Fact]
    public void RaftCommandsOfASingleNode()
    {
        using var client = fixture.ConnectEmptied();
        var address = $"127.0.0.1:{fixture.Node.Port}";
        Assert.Equal($"\"{address}\"", client.Text("RAFTLEADER"));
        Assert.Equal("\"Leader\"", client.Text("RAFTSTATE"));
        Assert.Equal($"[\"{address}\", \"Leader\"]", client.Text("RAFTPEERS"));
        Assert.Equal("+OK", client.Text("RAFTSHRINKLOG"));

        var stats = client.Call("RAFTSTATS");
        string[] numbers = ["applied_index", "commit_index", "last_log_index", "last_log_term", "last_snapshot_index", "term", "num_peers"];
        Assert.All(numbers, name => Assert.True(long.Parse(stats.Field(name)!.Text) >= 0));
        Assert.Equal("Leader", stats.Field("state")?.Text);
        Assert.Equal("0", stats.Field("num_peers")?.Text);
        var before = long.Parse(stats.Field("applied_index")!.Text);
        _ = client.Call("SET", "a", "1");
        Assert.True(long.Parse(client.Call("RAFTSTATS").Field("applied_index")!.Text) > before);
    }

    [Theory]
    [InlineData("SET a 1 EX")]
    [InlineData("SET a 1 FOO")]
    [InlineData("SELECT 1")]
    [InlineData("CONFIG SET save x")]
    [InlineData("CLIENT KILL")]
    [InlineData("SHUTDOWN FOO")]
    public void WhatTheNodeDoesNotDoIsAnErrorThatChangesNothing(string command)
    {
        using var client = fixture.ConnectEmptied();
        Assert.StartsWith("-ERR ", client.Text([.. command.Split(' ').Select(static word => (RespArgument)word)]), StringComparison.Ordinal);
        Assert.Equal(":0", client.Text("DBSIZE"));
        Assert.Equal("+PONG", client.Text("PING"));
    }

    private static Dictionary<string, string> Info(RespClient client, string section)
    {
        var fields = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var line in client.Call("INFO", section).Text.Split("\r\n"))
        {
            var colon = line.IndexOf(':', StringComparison.Ordinal);
            if (colon > 0)
            {
                fields[line[..colon]] = line[(colon + 1)..];
            }
        }

        return fields;
    }
}
