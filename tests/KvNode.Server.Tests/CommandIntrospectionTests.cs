using System.Text.Json.Nodes;
using KvNode.Server.Commands;
using Xunit;

namespace KvNode.Server.Tests;

public class CommandIntrospectionTests
{
    [Fact]
    public void CountListAndTheWholeAgree()
    {
        var runner = new CommandRunner();
        var count = CommandTable.Default.Rows.Length;
        Assert.Equal($":{count}\r\n", runner.Run("COMMAND COUNT"));
        Assert.Equal(count, Wire.ToJson(runner.Run("COMMAND")).AsArray().Count);
        Assert.Equal(runner.Run("COMMAND"), runner.Run("COMMAND INFO"));
        Assert.Equal(count * 2, Wire.ToJson(runner.Run("COMMAND DOCS")).AsArray().Count);
        Assert.Equal(count, Names(runner.Run("COMMAND LIST")).Count(name => !name.Contains('|', StringComparison.Ordinal)));
    }

    [Fact]
    public void EveryCommandIsThereAndNoOther()
    {
        const string Wanted =
            "set get mset mget del exists pdel delif keys dbsize flushdb flushall ping echo quit shutdown select type "
            + "strlen command command|count command|info command|docs command|list command|getkeys info config config|get "
            + "hello client client|id client|getname client|setname client|setinfo client|list client|info client|no-evict "
            + "raftsnapshot raftleader raftstate raftstats raftpeers raftshrinklog raftaddpeer raftremovepeer raft raft|info "
            + "raft|server raft|transfer raft|snapshot readonly readwrite cluster cluster|info cluster|keyslot cluster|myid "
            + "cluster|nodes cluster|shards cluster|slots";
        string[] help = ["client|help", "command|help", "config|help", "raft|help", "cluster|help"];
        Assert.Equal(
            Wanted.Split(' ').Concat(help).Order(StringComparer.Ordinal),
            Names(new CommandRunner().Run("COMMAND LIST")).Order(StringComparer.Ordinal));
    }

    [Theory]
    [InlineData("COMMAND LIST FILTERBY PATTERN mse*", "mset")]
    [InlineData("command list filterby pattern CONFIG|*", "config|get,config|help")]
    [InlineData("COMMAND LIST FILTERBY ACLCAT string", "get,set,mget,mset,strlen")]
    [InlineData("COMMAND LIST FILTERBY aclcat FOO", "")]
    [InlineData("COMMAND LIST FILTERBY MODULE x", "")]
    public void TheListMayBeFiltered(string line, string names)
    {
        Assert.Equal(names, string.Join(',', Names(new CommandRunner().Run(line))));
        Assert.Equal(new CommandRunner(2).Run(line), new CommandRunner(3).Run(line));
    }

    [Theory]
    [InlineData("COMMAND LIST FILTERBY", "-ERR syntax error\r\n")]
    [InlineData("COMMAND LIST FOO", "-ERR syntax error\r\n")]
    [InlineData("COMMAND LIST FILTERBY foo bar", "-ERR syntax error\r\n")]
    [InlineData("COMMAND LIST FOO PATTERN bar", "-ERR syntax error\r\n")]
    [InlineData("COMMAND INFO nope", "*1\r\n$-1\r\n")]
    [InlineData("COMMAND INFO get|x config|nope", "*2\r\n$-1\r\n$-1\r\n")]
    [InlineData("COMMAND DOCS nope get|x", "*0\r\n")]
    [InlineData("COMMAND GETKEYS", "-ERR wrong number of arguments for 'command|getkeys' command\r\n")]
    [InlineData("COMMAND GETKEYS get", "-ERR wrong number of arguments for 'command|getkeys' command\r\n")]
    [InlineData("COMMAND GETKEYS get a", "*1\r\n$1\r\na\r\n")]
    [InlineData("COMMAND GETKEYS mget a b", "*2\r\n$1\r\na\r\n$1\r\nb\r\n")]
    [InlineData("COMMAND GETKEYS mset a 1 b 2", "*2\r\n$1\r\na\r\n$1\r\nb\r\n")]
    [InlineData("COMMAND GETKEYS delif needle a b", "*2\r\n$1\r\na\r\n$1\r\nb\r\n")]
    [InlineData("COMMAND GETKEYS set a 1 NX", "*1\r\n$1\r\na\r\n")]
    [InlineData("COMMAND GETKEYS foo x", "-ERR Invalid command specified\r\n")]
    [InlineData("COMMAND GETKEYS config foo", "-ERR Invalid command specified\r\n")]
    [InlineData("COMMAND GETKEYS ping x", "-ERR The command has no key arguments\r\n")]
    [InlineData("COMMAND GETKEYS config get", "-ERR The command has no key arguments\r\n")]
    [InlineData("COMMAND GETKEYS get a b", "-ERR Invalid number of arguments specified for command\r\n")]
    public void QuestionsAboutCommandsAreAnsweredAsRedisAnswersThem(string line, string reply) =>
        Assert.Equal(reply, new CommandRunner().Run(line));

    [Fact]
    public void DocsAreAMapWithAnArgumentTree()
    {
        const string Set = """
            {"set":{"summary":"Sets the string value of a key, replacing whatever it held.","since":"1.0.0",
            "group":"string","complexity":"O(1)","arguments":[{"name":"key","type":"key","key_spec_index":0},
            {"name":"value","type":"string"},{"name":"nx_xx","type":"oneof","flags":["optional"],
            "arguments":[{"name":"nx","type":"pure-token","token":"NX"},{"name":"xx","type":"pure-token","token":"XX"}]},
            {"name":"get","type":"pure-token","token":"GET","flags":["optional"]},
            {"name":"keepttl","type":"pure-token","token":"KEEPTTL","flags":["optional"]}]}}
            """;
        var docs = Wire.ToJson(new CommandRunner(3).Run("COMMAND DOCS SET nope"));
        Assert.Equal(JsonNode.Parse(Set)!.ToJsonString(), docs.ToJsonString());
        var flat = Wire.ToJson(new CommandRunner(2).Run("COMMAND DOCS SET"));
        Assert.Equal("set", (string)flat[0]!);
        Assert.Equal(10, flat[1]!.AsArray().Count);
    }

    [Fact]
    public void DocsOfAContainerHoldThoseOfItsSubcommands()
    {
        var docs = Wire.ToJson(new CommandRunner(3).Run("COMMAND DOCS config config|get"));
        var inside = docs["config"]!["subcommands"]!.AsObject();
        Assert.Equal(["config|get", "config|help"], inside.Select(pair => pair.Key));
        Assert.Equal(docs["config|get"]!.ToJsonString(), inside["config|get"]!.ToJsonString());
        Assert.Equal("parameter", (string)inside["config|get"]!["arguments"]![0]!["name"]!);
    }

    [Theory]
    [InlineData("CONFIG")]
    [InlineData("CLIENT")]
    [InlineData("COMMAND")]
    public void HelpListsEverySubcommand(string container)
    {
        var lines = Names(new CommandRunner().Run($"{container} HELP"));
        Assert.Equal($"{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:", lines[0]);
        Assert.True(CommandTable.Default.TryFindFull(Wire.Bytes(container), out var row));
        Assert.Equal(1 + (2 * row.Subcommands.Length), lines.Count);
        Assert.Equal(["HELP", "    Prints this help."], lines.TakeLast(2));
        Assert.Equal(
            $"-ERR wrong number of arguments for '{container.ToLowerInvariant()}|help' command\r\n",
            new CommandRunner().Run($"{container} HELP x"));
    }

    private static List<string> Names(string reply) => [.. Wire.ToJson(reply).AsArray().Select(node => (string)node!)];
}
