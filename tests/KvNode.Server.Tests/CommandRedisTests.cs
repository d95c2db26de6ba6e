using System.Text.Json.Nodes;
using KvNode.Server.Commands;
using KvNode.Server.Resp;
using Xunit;

namespace KvNode.Server.Tests;

/// <summary>
/// What redis-server 7.0.15 answers to COMMAND INFO against what we answer. The golden file is made by
/// <c>testdata/redis-command-info.sh</c>.
/// </summary>
public class CommandRedisTests
{
    private static readonly string[] Elements =
        ["name", "arity", "flags", "first key", "last key", "step", "categories", "tips", "key specifications"];

    /// <summary>Where we differ from Redis on purpose: command, element, our value, why.</summary>
    private static readonly (string Name, string Element, string Ours, string Why)[] Differences =
    [
        ("keys", "arity", "-2", "KEYS takes PIVOT, LIMIT, DESC and WITHVALUES"),
        ("keys", "tips", """["request_policy:all_shards"]""", "the order of our KEYS is that of the bytes"),
    ];

    /// <summary>Commands that Redis 7.0 does not have.</summary>
    private static readonly string[] Own =
    [
        "delif", "pdel", "raftleader", "raftstate", "raftstats", "raftpeers", "raftsnapshot", "raftshrinklog",
        "client|setinfo", "raftaddpeer", "raftremovepeer", "raft", "raft|info", "raft|server", "raft|transfer",
        "raft|snapshot", "raft|help",
    ];

    [Fact]
    public void EveryCommandThatRedisHasIsDescribedAsRedisDescribesIt()
    {
        var golden = ReadGolden();
        var compared = 0;
        var found = new List<string>();
        foreach (var row in AllRows())
        {
            if (!golden.TryGetValue(row.DisplayName, out var theirs))
            {
                Assert.Contains(row.DisplayName, Own);
                continue;
            }

            compared++;
            var ours = Describe(row);
            for (var i = 0; i < Elements.Length; i++)
            {
                var (a, b) = (ours[i]!.ToJsonString(), theirs[i]!.ToJsonString());
                if (a != b)
                {
                    found.Add($"{row.DisplayName}: {Elements[i]}: {a}");
                }
            }
        }

        var expected = Differences.Select(entry => $"{entry.Name}: {entry.Element}: {entry.Ours}");
        Assert.Equal(expected, found);
        Assert.True(compared > 30, $"{compared} compared");
        Assert.DoesNotContain(Own, golden.ContainsKey);
    }

    [Theory]
    [InlineData("get")]
    [InlineData("mget")]
    [InlineData("config|get")]
    [InlineData("command")]
    public void CommandInfoHasTheShapeOfRedis(string name)
    {
        var three = Wire.ToJson(new CommandRunner(3).Run($"COMMAND INFO {name}"))[0]!;
        Assert.Equal(10, three.AsArray().Count);
        var two = Wire.ToJson(new CommandRunner(2).Run($"COMMAND INFO {name}"))[0]!;
        Assert.Equal(three[6]!.ToJsonString(), two[6]!.ToJsonString());
        Assert.Equal(10, two.AsArray().Count);
    }

    private static IEnumerable<CommandSpec> AllRows()
    {
        foreach (var row in CommandTable.Default.Rows.ToArray())
        {
            yield return row;
            foreach (var subcommand in row.Subcommands)
            {
                yield return subcommand;
            }
        }
    }

    private static JsonArray Describe(CommandSpec row)
    {
        using var reply = new RespWriter(3);
        CommandDescription.WriteInfo(reply, row);
        return Wire.ToJson(Wire.Text(reply.Written)).AsArray();
    }

    private static Dictionary<string, JsonArray> ReadGolden()
    {
        var lines = new Dictionary<string, JsonArray>(StringComparer.Ordinal);
        foreach (var line in File.ReadAllLines(Path.Combine(TestData.Directory(), "redis-command-info.txt")))
        {
            if (line.StartsWith('#'))
            {
                Assert.Equal("# redis_version:7.0.15", line);
                continue;
            }

            var blank = line.IndexOf(' ', StringComparison.Ordinal);
            lines.Add(line[..blank], JsonNode.Parse(line[(blank + 1)..])![0]!.AsArray());
        }

        return lines;
    }
}

internal static class TestData
{
    /// <summary>The test data in the source tree, found upward from the test's program.</summary>
    public static string Directory()
    {
        for (var at = new DirectoryInfo(AppContext.BaseDirectory); at is not null; at = at.Parent)
        {
            var path = Path.Combine(at.FullName, "tests", "KvNode.Server.Tests", "testdata");
            if (System.IO.Directory.Exists(path))
            {
                return path;
            }
        }

        throw new DirectoryNotFoundException("testdata");
    }
}
