using KvNode.Raft.Core;
using Xunit;
using static KvNode.Raft.Tests.Scenarios.Say;

namespace KvNode.Raft.Tests.Scenarios;

/// <summary>Section 1 of the scenarios, where several nodes or a slow disk take part.</summary>
public sealed class ElectionStoryTests
{
    /// <summary>Pre-vote keeps a node that is behind from disturbing; only a transfer's TimeoutNow gets it past that.</summary>
    [Fact]
    public void E15_ADuelIsLostByTheShorterLog()
    {
        var cluster = new Cluster();
        cluster.Cut(1, 3);
        cluster.Holds = message => message.Type is MessageType.PreVoteResponse;
        cluster.Campaign(1);
        cluster.Campaign(3);
        cluster.ReleaseHeld();
        cluster.AssertRoles((1, CoreRole.Leader), (2, CoreRole.Follower), (3, CoreRole.Candidate));
        cluster.Propose(1);

        cluster.Heal();
        cluster[3].Receives(Heartbeat(1, 1));
        cluster[3].Sent();
        cluster[3].Receives(TimeoutNow(1, 1));
        cluster.Loses = message => message.Term == 1;
        cluster.Settle();

        cluster.AssertSameTerm();
        Assert.Equal(2UL, cluster[1].Core.Term);
        cluster.AssertRoles((1, CoreRole.Follower), (2, CoreRole.Follower), (3, CoreRole.Follower));
        Assert.True(cluster[3].Last < cluster[1].Last);
    }

    [Fact]
    public void E16_ACandidateThatWasCutOffConcedes()
    {
        var cluster = new Cluster();
        cluster.Isolate(1);
        cluster.Campaign(1);
        cluster.Elect(3);
        cluster.AssertRoles((1, CoreRole.PreCandidate), (3, CoreRole.Leader));

        cluster.Heal();
        cluster.Tick(Setup.HeartbeatTicks, 3);
        cluster.Propose(3, "kept");
        cluster.Tick(Setup.HeartbeatTicks, 3);

        cluster.AssertRoles((1, CoreRole.Follower), (2, CoreRole.Follower));
        cluster.AssertSameTerm();
        cluster.AssertEqualLogs();
    }

    [Fact]
    public void E18_ALeaderIgnoresOldAppendsAfterLeadershipWentBackAndForth()
    {
        var cluster = new Cluster();
        cluster.Elect(1);
        cluster.Elect(2);
        cluster.Elect(1);

        cluster[1].Receives(Append(2, 2, At(2, 2), [2]));
        cluster.Settle();
        cluster.Propose(1, "last");
        cluster.Tick(Setup.HeartbeatTicks, 1);

        Assert.Equal((CoreRole.Leader, 3UL), (cluster[1].Core.Role, cluster[1].Core.Term));
        Assert.Equal([1UL, 2, 3, 3], cluster[1].Terms);
        cluster.AssertEqualLogs();
    }

    [Fact]
    public void E19_EachNodeLeadsInItsTurn()
    {
        var cluster = new Cluster();
        for (var turn = 0UL; turn < 6; turn++)
        {
            var leader = (turn % 3) + 1;
            cluster.Elect(leader);

            Assert.Same(cluster[leader], cluster.Leader);
            Assert.All(cluster.Nodes, node => Assert.Equal((leader, turn + 1), (node.Core.Leader, node.Core.Term)));
        }
    }

    [Fact]
    public void E20_AnOlderLogOnAMajorityMayReplaceANewerUncommittedOne()
    {
        var voters = Config.Of(1, 2, 3, 4, 5);
        var old = new Setup { Membership = voters, Term = 1, Log = [1] };
        var voted = new Setup { Membership = voters, Term = 2, Vote = 3 };
        var cluster = new Cluster((1, old), (2, old), (3, voted with { Log = [2] }), (4, voted), (5, voted));

        cluster.Campaign(1);
        Assert.NotEqual(CoreRole.Leader, cluster[1].Core.Role);
        Assert.Equal(2UL, cluster[1].Core.Term);
        cluster.Campaign(1);
        cluster.Tick(Setup.HeartbeatTicks, 1);

        Assert.Equal((CoreRole.Leader, 3UL), (cluster[1].Core.Role, cluster[1].Core.Term));
        Assert.All(cluster.Nodes, node => Assert.Equal([1UL, 3], node.Terms));
        cluster.AssertEqualLogs();
    }

    [Theory]
    [InlineData(MessageType.Heartbeat)]
    [InlineData(MessageType.Append)]
    internal void E24_ANodeOfAHigherTermEndsUpInOneTermWithTheOthers(MessageType first)
    {
        var fresh = new Setup();
        var cluster = new Cluster((1, fresh), (2, fresh), (3, fresh with { Term = 5 }));
        cluster.Isolate(3);
        cluster.Elect(1);
        Assert.Equal(1UL, cluster[1].Core.Term);

        cluster.Heal();
        cluster[3].Receives(new Message { Type = first, From = 1, Term = 1 });
        cluster.Settle();
        Assert.Equal((CoreRole.Follower, 5UL), (cluster[1].Core.Role, cluster[1].Core.Term));

        cluster.Elect(1);
        cluster.Tick(Setup.HeartbeatTicks, 1);
        cluster.AssertSameTerm();
        cluster.AssertEqualLogs();
    }

    [Theory]
    [InlineData(CoreRole.PreCandidate)]
    [InlineData(CoreRole.Candidate)]
    internal void E25_AnOwnVoteThatBecomesDurableTooLateCountsForNothing(CoreRole role)
    {
        var node = new Node(1, new Setup()) { HoldDisk = true };
        node.BecomePreCandidate();
        if (role == CoreRole.Candidate)
        {
            node.Receives(PreVoteReply(2, 1));
        }

        node.Receives(Heartbeat(3, 1));
        node.Write();

        Assert.Equal((CoreRole.Follower, 1UL, 3UL), (node.Core.Role, node.Core.Term, node.Core.Leader));
    }

    [Fact]
    public void E26_ACandidateNeedsItsOwnVoteOnDisk()
    {
        var node = new Node(1, new Setup()) { HoldDisk = true };
        node.BecomePreCandidate();
        node.Receives(PreVoteReply(2, 1));
        node.Receives(PreVoteReply(3, 1));
        Assert.Equal((CoreRole.Candidate, 1UL), (node.Core.Role, node.Core.Term));

        node.Receives(VoteReply(2, 1));
        Assert.Equal(CoreRole.Candidate, node.Core.Role);
        node.Write();
        Assert.Equal(CoreRole.Leader, node.Core.Role);
    }

    [Fact]
    public void E27_AnOwnAckFromBeforeATermChangeHasNoEffect()
    {
        var node = new Node(1, new Setup());
        node.BecomeLeader(2, 3);
        var commit = node.Core.Commit;
        node.HoldDisk = true;
        node.Propose();

        node.Receives(Heartbeat(2, 2, commit));
        node.Write();

        Assert.Equal((CoreRole.Follower, 2UL, commit), (node.Core.Role, node.Core.Term, node.Core.Commit));
    }

    [Fact]
    public void E28_ANodeOutsideTheConfigurationNeverCampaigns()
    {
        var node = new Node(4, new Setup { Term = 1 });

        node.Campaign();
        node.Receives(TimeoutNow(1, 1));
        node.Receives(PreVoteReply(2, 2));
        node.Receives(VoteReply(2, 1));
        node.Tick(3 * Setup.ElectionTicks);

        Assert.Equal((CoreRole.Follower, 1UL), (node.Core.Role, node.Core.Term));
        Assert.Empty(node.Sent());
    }

    [Fact]
    public void E29_NoCampaignWhileAConfigurationChangeIsCommittedAndNotApplied()
    {
        var node = new Node(1, new Setup()) { HoldApply = true };
        var change = Config.Change(Config.Add(4)).Encode();
        node.Receives(AppendEntries(2, 1, At(0, 0), [new LogEntry(At(1, 1), EntryKind.Configuration, change)], commit: 1));
        node.Receives(Heartbeat(2, 1, commit: 1));
        Assert.Equal(1UL, node.Core.Commit);

        node.Tick(3 * Setup.ElectionTicks);
        Assert.Equal(CoreRole.Follower, node.Core.Role);
        node.Receives(TimeoutNow(2, 1));
        Assert.Equal(CoreRole.Follower, node.Core.Role);

        node.Apply();
        node.Receives(TimeoutNow(2, 1));
        Assert.Equal(CoreRole.Candidate, node.Core.Role);
    }

    [Fact]
    public void E30_NoCampaignWhileASnapshotIsBeingInstalled()
    {
        var node = new Node(1, new Setup()) { HoldDisk = true };
        Assert.True(node.ReceivesSnapshot(2, 1, At(10, 1), Config.Of(1, 2, 3)));

        node.Tick(3 * Setup.ElectionTicks);
        node.Campaign();
        Assert.Equal(CoreRole.Follower, node.Core.Role);

        node.Write();
        node.Campaign();
        Assert.Equal(CoreRole.PreCandidate, node.Core.Role);
    }
}
