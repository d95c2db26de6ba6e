using KvNode.Raft;
using Xunit;

namespace KvNode.Server.Tests;

public class CommandRaftTests
{
    [Fact]
    public void TheLeadersAddressIsABulkOrNull()
    {
        var runner = new CommandRunner();
        Assert.Equal("$14\r\n127.0.0.1:4920\r\n", runner.Run("RAFTLEADER"));
        runner.Node.Status = runner.Node.Status with { LeaderAddress = null };
        Assert.Equal("$-1\r\n", runner.Run("raftleader"));
    }

    [Theory]
    [InlineData(RaftRole.Leader, "Leader")]
    [InlineData(RaftRole.Follower, "Follower")]
    [InlineData(RaftRole.Candidate, "Candidate")]
    [InlineData(RaftRole.Shutdown, "Shutdown")]
    public void TheStateIsTheRolesName(RaftRole role, string name)
    {
        var runner = new CommandRunner();
        runner.Node.Status = runner.Node.Status with { Role = role };
        Assert.Equal($"${name.Length}\r\n{name}\r\n", runner.Run("RAFTSTATE"));
    }

    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    public void StatisticsAreElevenSortedPairs(int protocol)
    {
        var runner = new CommandRunner(protocol);
        runner.Node.Status = runner.Node.Status with { Members = Three };
        string[] pairs =
        [
            "applied_index", "118", "commit_index", "120", "fsm_pending", "2", "last_contact", "never",
            "last_log_index", "122", "last_log_term", "3", "last_snapshot_index", "90", "last_snapshot_term", "2",
            "num_peers", "2", "state", "Leader", "term", "3",
        ];
        var body = string.Concat(pairs.Select(word => $"${word.Length}\r\n{word}\r\n"));
        Assert.Equal((protocol == 3 ? "%11\r\n" : "*22\r\n") + body, runner.Run("RAFTSTATS"));
        var names = pairs.Where((_, i) => i % 2 == 0).ToArray();
        Assert.Equal(names.Order(StringComparer.Ordinal), names);
    }

    [Theory]
    [InlineData(2, "*6\r\n")]
    [InlineData(3, "%3\r\n")]
    public void PeersAreSortedByAddressWithTheirRoles(int protocol, string head)
    {
        var runner = new CommandRunner(protocol);
        runner.Node.Status = runner.Node.Status with { Members = Three };
        Assert.Equal(
            head + "$14\r\n10.0.0.10:4920\r\n$8\r\nFollower\r\n$13\r\n10.0.0.9:4920\r\n$7\r\nInvalid\r\n"
                + "$14\r\n127.0.0.1:4920\r\n$6\r\nLeader\r\n",
            runner.Run("RAFTPEERS"));
    }

    [Fact]
    public void ASnapshotIsTakenUnlessNothingWasEverApplied()
    {
        var runner = new CommandRunner();
        Assert.Equal("+OK\r\n", runner.Run("RAFTSNAPSHOT"));
        Assert.Equal(1, runner.Node.SnapshotsMade);
        runner.Node.SnapshotOutcome = new AdminOutcome(false, "disk\r\nfull");
        Assert.Equal("-ERR disk  full\r\n", runner.Run("RAFTSNAPSHOT"));
        runner.Node.Status = runner.Node.Status with { AppliedIndex = 0 };
        Assert.Equal("-ERR Nothing new to snapshot\r\n", runner.Run("RAFTSNAPSHOT"));
        Assert.Equal(2, runner.Node.SnapshotsMade);
    }

    [Fact]
    public void ShrinkingTheLogSaysHowItEnded()
    {
        var runner = new CommandRunner();
        Assert.Equal("+OK\r\n", runner.Run("RAFTSHRINKLOG"));
        runner.Node.ShrinkOutcome = new AdminOutcome(false, "shrink in progress");
        Assert.Equal("-ERR shrink in progress\r\n", runner.Run("RAFTSHRINKLOG"));
    }

    [Theory]
    [InlineData("RAFTLEADER")]
    [InlineData("RAFTSTATE")]
    [InlineData("RAFTSTATS")]
    [InlineData("RAFTPEERS")]
    [InlineData("RAFTSNAPSHOT")]
    [InlineData("RAFTSHRINKLOG")]
    public void NoneOfThemTakesAnArgument(string name) => Assert.Equal(
        $"-ERR wrong number of arguments for '{name.ToLowerInvariant()}' command\r\n",
        new CommandRunner().Run($"{name} x"));

    [Theory]
    [InlineData(-1, "never")]
    [InlineData(0, "0")]
    [InlineData(13_543, "1.3543ms")]
    [InlineData(9_990_000, "999ms")]
    [InlineData(15_000_000, "1.5s")]
    public void TheLastContactIsWrittenAsTheOriginalDoes(long ticks, string text)
    {
        var runner = new CommandRunner();
        runner.Node.Status = runner.Node.Status with { LastContact = ticks < 0 ? null : TimeSpan.FromTicks(ticks) };
        Assert.Contains($"$12\r\nlast_contact\r\n${text.Length}\r\n{text}\r\n", runner.Run("RAFTSTATS"), StringComparison.Ordinal);
    }

    private static RaftMember[] Three =>
    [
        new(1, "127.0.0.1:4920", Voter: true, Role: null),
        new(2, "10.0.0.9:4920", Voter: true, Role: null),
        new(3, "10.0.0.10:4920", Voter: true, RaftRole.Follower),
    ];
}
