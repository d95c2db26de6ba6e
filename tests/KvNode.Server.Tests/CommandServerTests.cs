using System.Globalization;
using KvNode.Raft;
using KvNode.Server.Commands;
using Xunit;

namespace KvNode.Server.Tests;

public class CommandServerTests
{
    private const string AllSections =
        "Server,Clients,Memory,Persistence,Stats,Replication,CPU,Raft,Commandstats,Cluster,Keyspace";

    [Fact]
    public void InfoWithoutASectionIsAllButTheCommandStatistics() => Assert.Equal(
        ["Server", "Clients", "Memory", "Persistence", "Stats", "Replication", "CPU", "Raft", "Cluster", "Keyspace"],
        Sections(Info("INFO")));

    [Theory]
    [InlineData("INFO clients", "Clients")]
    [InlineData("INFO CLIENTS Raft clients nope", "Clients,Raft")]
    [InlineData("INFO keyspace server", "Server,Keyspace")]
    [InlineData("INFO commandstats", "Commandstats")]
    [InlineData("INFO default", "Server,Clients,Memory,Persistence,Stats,Replication,CPU,Raft,Cluster,Keyspace")]
    [InlineData("INFO default commandstats", AllSections)]
    [InlineData("INFO all", AllSections)]
    [InlineData("INFO everything", AllSections)]
    public void InfoGivesTheSectionsAskedForInItsOwnOrder(string line, string sections) =>
        Assert.Equal(sections, string.Join(',', Sections(Info(line))));

    [Fact]
    public void InfoIsTextForPeopleInBothProtocols()
    {
        const string Cluster = "# Cluster\r\ncluster_enabled:0\r\n";
        Assert.Equal($"${Cluster.Length}\r\n{Cluster}\r\n", new CommandRunner().Run("INFO cluster"));
        Assert.Equal($"={Cluster.Length + 4}\r\ntxt:{Cluster}\r\n", new CommandRunner(3).Run("INFO cluster"));
        Assert.Equal("$0\r\n\r\n", new CommandRunner().Run("INFO nope"));
        Assert.Equal("=4\r\ntxt:\r\n", new CommandRunner(3).Run("INFO nope"));
        Assert.StartsWith(
            "# Cluster\r\ncluster_enabled:0\r\n\r\n# Keyspace\r\n", Info("INFO cluster keyspace"), StringComparison.Ordinal);
    }

    [Fact]
    public void EveryLineOfInfoIsAHeadAFieldOrEmptyAndNoFieldComesTwice()
    {
        var runner = new CommandRunner();
        runner.Node.Status = runner.Node.Status with { WriteRefusal = "no space\r\nleft" };
        runner.Run("GET x");
        var fields = new HashSet<string>(StringComparer.Ordinal);
        foreach (var line in Text(runner.Run("INFO everything")).Split("\r\n"))
        {
            Assert.DoesNotContain('\n', line);
            if (line.Length > 0 && !line.StartsWith("# ", StringComparison.Ordinal))
            {
                Assert.Matches("^[a-z0-9_|-]+:", line);
                Assert.True(fields.Add(line[..line.IndexOf(':', StringComparison.Ordinal)]), line);
            }
        }

        Assert.InRange(fields.Count, 80, 200);
    }

    [Fact]
    public void InfoSaysWhatTheNodeSays()
    {
        var runner = new CommandRunner();
        var stats = runner.Node.Stats;
        (stats.ConnectionsReceived, stats.CommandsProcessed, stats.KeyspaceHits, stats.KeyspaceMisses) = (11, 12, 13, 14);
        (stats.NetInputBytes, stats.NetOutputBytes, stats.ErrorReplies, stats.ConnectionsRejected) = (15, 16, 17, 18);
        (stats.ClientsClosedByLimit, stats.ClientsClosedIdle) = (19, 20);
        runner.Node.ClientList.Add(runner.Client.Info);
        runner.Client.Info.QueryBufferBytes = 77;
        var info = Fields(runner.Run("INFO"));
        Assert.Equal("7.0.15", info["redis_version"]);
        Assert.Matches(@"^\d+\.\d+\.\d+$", info["kvnode_version"]);
        Assert.Equal(Environment.ProcessId.ToString(CultureInfo.InvariantCulture), info["process_id"]);
        Assert.Equal(("90061", "1"), (info["uptime_in_seconds"], info["uptime_in_days"]));
        Assert.Equal(("1", "10000"), (info["connected_clients"], info["maxclients"]));
        Assert.Equal("77", info["client_recent_max_input_buffer"]);
        Assert.Equal(("11", "12", "13", "14"), (info["total_connections_received"], info["total_commands_processed"],
            info["keyspace_hits"], info["keyspace_misses"]));
        Assert.Equal(("15", "16", "17", "18"), (info["total_net_input_bytes"], info["total_net_output_bytes"],
            info["total_error_replies"], info["rejected_connections"]));
        Assert.Equal(("19", "20"), (info["clients_closed_by_limit"], info["clients_closed_idle"]));
        Assert.Equal(("1", "ok", "67108864"),
            (info["aof_enabled"], info["aof_last_write_status"], info["aof_current_size"]));
        Assert.Equal(("121", "30", "900"), (info["wal_durable_index"], info["wal_syncs"], info["wal_sync_usec_max"]));
        Assert.Equal(("100", "5", "4096"),
            (info["store_durable_index"], info["store_buffer_keys"], info["write_buffer_bytes"]));
        Assert.Equal(("master", "0"), (info["role"], info["connected_slaves"]));
        Assert.Equal(("leader", "3", "118", "120"), (info["raft_role"], info["raft_term"],
            info["raft_applied_index"], info["raft_commit_index"]));
        Assert.Equal("id=0000000000000001,addr=127.0.0.1:4920,voter=1,role=leader", info["raft_member0"]);
        Assert.Equal("keys=2,expires=0,avg_ttl=0", info["db0"]);
        Assert.True(long.Parse(info["used_memory_rss"], CultureInfo.InvariantCulture) > 1_000_000);
    }

    [Fact]
    public void AFollowerNamesItsLeaderAndAnEmptyKeyspaceNoDatabase()
    {
        var runner = new CommandRunner();
        runner.Node.Status = runner.Node.Status with
        {
            Role = RaftRole.Follower,
            LeaderAddress = "[::1]:4921",
            LeaderId = 2,
            LastContact = TimeSpan.FromSeconds(3),
            WriteRefusal = "disk full",
        };
        runner.Node.StoreStatus = runner.Node.StoreStatus with { Keys = 0, FlushError = "ENOSPC" };
        var info = Fields(runner.Run("INFO"));
        Assert.Equal(("slave", "[::1]", "4921", "up"),
            (info["role"], info["master_host"], info["master_port"], info["master_link_status"]));
        Assert.Equal(("3", "118", "120"),
            (info["master_last_io_seconds_ago"], info["slave_repl_offset"], info["master_repl_offset"]));
        Assert.Equal(("follower", "0000000000000002", "00000000000000c1", "3s", "0"), (info["raft_role"],
            info["raft_leader_id"], info["raft_cluster_id"], info["raft_last_contact"], info["raft_removed"]));
        Assert.Equal(("err", "disk full", "ENOSPC"),
            (info["aof_last_write_status"], info["write_refusal"], info["store_flush_error"]));
        Assert.False(info.ContainsKey("db0"));
        runner.Node.Status = runner.Node.Status with { LeaderAddress = null };
        Assert.Equal("down", Fields(runner.Run("INFO replication"))["master_link_status"]);
    }

    [Fact]
    public void ALeaderNamesItsReplicasAndHowFarTheyAre()
    {
        var runner = new CommandRunner();
        runner.Node.Status = runner.Node.Status with
        {
            Members =
            [
                new RaftMember(1, "a:1", Voter: true, RaftRole.Leader, 122),
                new RaftMember(2, "b:2", Voter: true, RaftRole.Follower, 120),
                new RaftMember(3, "c:3", Voter: false, Role: null),
            ],
        };
        var info = Fields(runner.Run("INFO"));
        Assert.Equal("1", info["connected_slaves"]);
        Assert.Equal("ip=b,port=2,state=online,offset=120,entries_behind=2", info["slave0"]);
        Assert.Equal("ip=c,port=3,state=offline,offset=0,entries_behind=122", info["slave1"]);
        Assert.Equal("id=0000000000000002,addr=b:2,voter=1,role=follower,match=120", info["raft_member1"]);
        Assert.Equal("id=0000000000000003,addr=c:3,voter=0,role=unreachable", info["raft_member2"]);
        Assert.Equal("0", info["cluster_enabled"]);
        runner.Node.SettingList.Add(new("follower", "moved"));
        Assert.Equal("1", Fields(runner.Run("INFO cluster"))["cluster_enabled"]);
    }

    [Fact]
    public void CommandStatisticsNameTheCommandsThatWereCalled()
    {
        Assert.True(CommandTable.Default.TryFindFull("client|no-evict"u8, out var row));
        Interlocked.Add(ref row.Stats.Calls, 4);
        Interlocked.Add(ref row.Stats.Ticks, System.Diagnostics.Stopwatch.Frequency / 1000);
        var before = row.Stats.Rejected;
        var runner = new CommandRunner();
        runner.Run("CLIENT NO-EVICT");
        var calls = row.Stats.Calls;
        var line = Fields(runner.Run("INFO commandstats"))["cmdstat_client|no-evict"];
        Assert.Matches($"^calls={calls},usec=\\d+,usec_per_call=\\d+\\.\\d\\d,rejected_calls=\\d+,failed_calls=0$", line);
        Assert.True(row.Stats.Rejected > before);
    }

    [Theory]
    [InlineData("0", "0B")]
    [InlineData("1023", "1023B")]
    [InlineData("1536", "1.50K")]
    [InlineData("1048576", "1.00M")]
    [InlineData("25276510208", "23.54G")]
    public void BytesAreAlsoGivenInUnits(string bytes, string human) =>
        Assert.Equal(human, InfoReport.Human(long.Parse(bytes, CultureInfo.InvariantCulture)));

    [Fact]
    public void MemoryIsReadFromTheKernelsStatusLines()
    {
        var memory = ProcessMemory.Parse(
            "Name:\tkvnode\nVmHWM:\t    2048 kB\nVmRSS:\t   1024 kB\nRssAnon:\t 700 kB\nRssFile:\t 300 kB\n"
            + "RssShmem:\t 24 kB\nbroken\n");
        Assert.Equal(new ProcessMemory(1024 * 1024, 2048 * 1024, 700 * 1024, 300 * 1024), memory);
        Assert.Equal(default, ProcessMemory.Parse("VmRSS:\tmuch kB\n"));
    }

    [Theory]
    [InlineData("CONFIG GET save", 2, "*2\r\n$4\r\nsave\r\n$0\r\n\r\n")]
    [InlineData("CONFIG GET save", 3, "%1\r\n$4\r\nsave\r\n$0\r\n\r\n")]
    [InlineData("config get APPENDONLY save", 2, "*4\r\n$4\r\nsave\r\n$0\r\n\r\n$10\r\nappendonly\r\n$3\r\nyes\r\n")]
    [InlineData("CONFIG GET *only append* dur[a-c]bility", 3,
        "%2\r\n$10\r\nappendonly\r\n$3\r\nyes\r\n$10\r\ndurability\r\n$4\r\nhigh\r\n")]
    [InlineData("CONFIG GET nope", 2, "*0\r\n")]
    [InlineData("CONFIG GET nope", 3, "%0\r\n")]
    [InlineData("CONFIG GET", 2, "-ERR wrong number of arguments for 'config|get' command\r\n")]
    [InlineData("CONFIG SET save x", 2, "-ERR unknown subcommand 'SET'. Try CONFIG HELP.\r\n")]
    public void ConfigGetAnswersTheSettingsThatMatch(string line, int protocol, string reply) =>
        Assert.Equal(reply, new CommandRunner(protocol).Run(line));

    [Theory]
    [InlineData("SHUTDOWN", "", true)]
    [InlineData("SHUTDOWN NOSAVE", "", true)]
    [InlineData("shutdown save now force", "", true)]
    [InlineData("SHUTDOWN foo", "-ERR syntax error\r\n", false)]
    [InlineData("SHUTDOWN SAVE NOSAVE", "-ERR syntax error\r\n", false)]
    [InlineData("SHUTDOWN ABORT", "-ERR No shutdown in progress.\r\n", false)]
    [InlineData("SHUTDOWN ABORT NOW", "-ERR syntax error\r\n", false)]
    public void ShutdownStopsTheNodeWithoutAReplyOrSaysWhyNot(string line, string reply, bool stops)
    {
        var runner = new CommandRunner();
        Assert.Equal(reply, runner.Run(line));
        Assert.Equal((stops, stops), (runner.Node.ShutdownRequested, runner.Client.Closed));
    }

    private static string Info(string line) => Text(new CommandRunner().Run(line));

    private static string Text(string reply) => (string)Wire.ToJson(reply)!;

    private static string[] Sections(string text) =>
        [.. text.Split("\r\n").Where(line => line.StartsWith("# ", StringComparison.Ordinal)).Select(line => line[2..])];

    private static Dictionary<string, string> Fields(string reply) => Text(reply).Split("\r\n")
        .Select(line => line.Split(':', 2))
        .Where(parts => parts.Length == 2)
        .ToDictionary(parts => parts[0], parts => parts[1], StringComparer.Ordinal);
}
