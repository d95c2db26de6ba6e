using KvNode.Raft;
using KvNode.Raft.Snapshots;
using KvNode.Server.Commands;
using Xunit;

namespace KvNode.Server.Tests;

public class CommandMemberTests
{
    [Theory]
    [InlineData("RAFTADDPEER 10.0.0.1:4920", "AddVoter 0 10.0.0.1:4920")]
    [InlineData("RAFTREMOVEPEER 10.0.0.1:4920", "Remove 0 10.0.0.1:4920")]
    [InlineData("RAFT SERVER REMOVE 00000000000000aB", "Remove 0 00000000000000aB")]
    [InlineData("raft server promote h:1", "Promote 0 h:1")]
    [InlineData("RAFT SERVER DEMOTE h:1", "Demote 0 h:1")]
    [InlineData("RAFT SERVER REPLACE h:1 [::1]:2", "Replace h:1 [::1]:2")]
    [InlineData("RAFT TRANSFER", "Transfer any")]
    [InlineData("RAFT TRANSFER h:1", "Transfer h:1")]
    public void ChangesAreAskedOfTheNodeAndAnsweredOkOrTheReason(string command, string asked)
    {
        var runner = new CommandRunner();
        Assert.Equal("+OK\r\n", runner.Run(command));
        Assert.Equal([asked], runner.Node.Asked);
        runner.Node.ClusterOutcome = new AdminOutcome(false, "peer is unknown");
        Assert.Equal("-ERR peer is unknown\r\n", runner.Run(command));
    }

    [Theory]
    [InlineData("RAFT SERVER ADD h:1", "AddVoter 0 h:1")]
    [InlineData("RAFT SERVER ADD h:1 learner", "AddLearner 0 h:1")]
    public void AddingAnswersTheNodesId(string command, string asked)
    {
        var runner = new CommandRunner();
        runner.Node.ClusterOutcome = new AdminOutcome(true, "00000000000000ab");
        Assert.Equal("$16\r\n00000000000000ab\r\n", runner.Run(command));
        Assert.Equal([asked], runner.Node.Asked);
        runner.Node.ClusterOutcome = new AdminOutcome(false, "peer already known");
        Assert.Equal("-ERR peer already known\r\n", runner.Run(command));
    }

    [Theory]
    [InlineData("RAFT SERVER LIST x")]
    [InlineData("RAFT SERVER ADD")]
    [InlineData("RAFT SERVER ADD h:1 VOTER")]
    [InlineData("RAFT SERVER REMOVE")]
    [InlineData("RAFT SERVER REPLACE h:1")]
    [InlineData("RAFT TRANSFER a b")]
    public void WhatIsNotOfTheSyntaxAsksNothing(string command)
    {
        var runner = new CommandRunner();
        Assert.Equal("-ERR syntax error\r\n", runner.Run(command));
        Assert.Empty(runner.Node.Asked);
    }

    [Theory]
    [InlineData("RAFT SERVER Foo")]
    [InlineData("RAFT SERVER Foo h:1")]
    [InlineData("raft snapshot Foo")]
    public void AnUnknownWordIsAnsweredAsAnUnknownSubcommand(string command)
    {
        var runner = new CommandRunner();
        Assert.Equal("-ERR unknown subcommand 'Foo'. Try RAFT HELP.\r\n", runner.Run(command));
        Assert.Empty(runner.Node.Asked);
    }

    [Theory]
    [InlineData("RAFTADDPEER host")]
    [InlineData("RAFTADDPEER :4920")]
    [InlineData("RAFTADDPEER host:0")]
    [InlineData("RAFTADDPEER host:65536")]
    [InlineData("RAFT SERVER ADD host:x")]
    [InlineData("RAFT SERVER REPLACE h:1 host")]
    public void WhatIsNoAddressIsRefusedBeforeAnybodyIsAsked(string command)
    {
        var runner = new CommandRunner();
        Assert.StartsWith($"-ERR '{command.Split(' ')[^1]}' is not an address", runner.Run(command), StringComparison.Ordinal);
        Assert.Empty(runner.Node.Asked);
    }

    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    public void TheListHasAMapForEachMember(int protocol)
    {
        var runner = new CommandRunner(protocol);
        runner.Node.Status = runner.Node.Status with
        {
            Members = [new RaftMember(0xAB, "b:2", Voter: false, Role: null), new RaftMember(1, "a:1", true, RaftRole.Leader, 122)],
        };
        var map = protocol == 3 ? "%5\r\n" : "*10\r\n";
        var none = protocol == 3 ? "_\r\n" : "$-1\r\n";
        Assert.Equal(
            $"*2\r\n{map}{Bulks("id", "0000000000000001", "address", "a:1", "suffrage", "voter", "state", "Leader", "match_index")}:122\r\n"
            + $"{map}{Bulks("id", "00000000000000ab", "address", "b:2", "suffrage", "learner", "state", "Invalid", "match_index")}{none}",
            runner.Run("RAFT SERVER LIST"));
    }

    [Fact]
    public void SnapshotsAreMadeAndListed()
    {
        var runner = new CommandRunner();
        Assert.Equal("$7\r\n3-118-1\r\n", runner.Run("RAFT SNAPSHOT NOW"));
        Assert.Equal("*0\r\n", runner.Run("RAFT SNAPSHOT LIST"));
        runner.Node.Snapshots =
        [
            new SnapshotInfo
            {
                Id = "3-118-1", Position = new EntryId(3, 118), UnixMs = 1, Size = 99, Crc = 5, Count = 2, Members = [], Format = 1,
            },
        ];
        Assert.Equal(
            $"*1\r\n*10\r\n{Bulks("id", "3-118-1", "index")}:118\r\n{Bulks("term")}:3\r\n{Bulks("size")}:99\r\n{Bulks("unix_ms")}:1\r\n",
            runner.Run("RAFT SNAPSHOT LIST"));
        runner.Node.Status = runner.Node.Status with { AppliedIndex = 0 };
        Assert.Equal("-ERR Nothing new to snapshot\r\n", runner.Run("RAFT SNAPSHOT NOW"));
    }

    [Fact]
    public void InfoOfRaftIsThatSectionOfInfo()
    {
        var runner = new CommandRunner();
        Assert.Equal(runner.Run("INFO raft"), runner.Run("RAFT INFO"));
        Assert.Contains("# Raft\r\nraft_node_id:0000000000000001\r\n", runner.Run("RAFT INFO"), StringComparison.Ordinal);
    }

    [Fact]
    public void ReadOnlyIsTheConnectionsOwn()
    {
        var runner = new CommandRunner();
        Assert.Equal("+OK\r\n", runner.Run("READONLY"));
        Assert.True(runner.Client.ReadOnly);
        Assert.Equal("+OK\r\n", runner.Run("READWRITE"));
        Assert.False(runner.Client.ReadOnly);
    }

    [Theory]
    [InlineData("123456789", 12739)] // 31C3 hexadecimal: the check value of CRC-16/XMODEM
    [InlineData("foo", 12182)] // as redis-server answers
    [InlineData("{user1000}.following", 3443)]
    [InlineData("{user1000}.followers", 3443)]
    [InlineData("foo{}{bar}", 8363)]
    [InlineData("foo{{bar}}zap", 4015)]
    [InlineData("foo{bar}{zap}", 5061)]
    [InlineData("\"\"", 0)]
    public void SlotsAreThoseOfRedisCluster(string key, int slot) =>
        Assert.Equal($":{slot}\r\n", new CommandRunner().Run($"CLUSTER KEYSLOT {key}"));

    [Fact]
    public void AllSlotsBelongToTheLeader()
    {
        var runner = new CommandRunner();
        runner.Node.Status = runner.Node.Status with
        {
            Members = [new RaftMember(2, "a:2", true, RaftRole.Follower), new RaftMember(1, "b:1", true, RaftRole.Leader, 7)],
        };
        var (one, two) = (new string('0', 39) + "1", new string('0', 39) + "2");
        Assert.Equal(
            $"*1\r\n*4\r\n:0\r\n:16383\r\n*4\r\n{Bulks("b")}:1\r\n{Bulks(one)}*0\r\n*4\r\n{Bulks("a")}:2\r\n{Bulks(two)}*0\r\n",
            runner.Run("CLUSTER SLOTS"));
        Assert.Equal(Bulks(one), runner.Run("CLUSTER MYID"));
        var nodes = $"{one} b:1@0 myself,master - 0 0 3 connected 0-16383\n{two} a:2@0 slave {one} 0 0 3 connected\n";
        Assert.Equal(Bulks(nodes), runner.Run("CLUSTER NODES"));
        Assert.Contains("cluster_state:ok\r\ncluster_slots_assigned:16384\r\n", runner.Run("CLUSTER INFO"), StringComparison.Ordinal);
        var shard = Wire.ToJson(new CommandRunner(3) { Client = runner.Client }.Run("CLUSTER SHARDS"))[0]!;
        Assert.Equal("[0,16383]", shard["slots"]!.ToJsonString());
    }

    [Fact]
    public void WithoutALeaderThereAreNoSlots()
    {
        var runner = new CommandRunner();
        runner.Node.Status = runner.Node.Status with { LeaderId = 0, LeaderAddress = null, Role = RaftRole.Candidate };
        Assert.Equal("*0\r\n", runner.Run("CLUSTER SLOTS"));
        Assert.Equal("*0\r\n", runner.Run("CLUSTER SHARDS"));
        Assert.Contains("cluster_state:fail", runner.Run("CLUSTER INFO"), StringComparison.Ordinal);
        Assert.Contains("myself,slave - 0 0", runner.Run("CLUSTER NODES"), StringComparison.Ordinal);
    }

    [Fact]
    public void HelpNamesEverySubcommand()
    {
        var help = new CommandRunner().Run("RAFT HELP");
        Assert.True(CommandTable.Default.TryFind("RAFT"u8, out var raft));
        Assert.All(raft.Subcommands, row => Assert.Contains($"+{CommandNames.KeyOf(row)}", help, StringComparison.Ordinal));
    }

    private static string Bulks(params string[] words) => string.Concat(words.Select(word => $"${word.Length}\r\n{word}\r\n"));
}
