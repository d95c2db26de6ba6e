using KvNode.Raft.Core;
using Xunit;
using static KvNode.Raft.Tests.Scenarios.Say;

namespace KvNode.Raft.Tests.Scenarios;

/// <summary>Section 9 of the scenarios: how a configuration change goes through the log, and what leaders do meanwhile.</summary>
public sealed class MembershipStoryTests
{
    /// <summary>A second change is refused before it reaches the log; it does not become an empty entry. The first one is over
    /// when an entry after it is applied.</summary>
    [Fact]
    public void M01_OneChangeAtATime()
    {
        var node = LeaderOf(Config.Of(1, 2, 3));
        Assert.Equal(ProposeResult.Accepted, node.ProposeChange(Config.Change(Config.Add(4))));

        Assert.Equal(ProposeResult.Refused, node.ProposeChange(Config.Change(Config.Add(5))));
        Assert.Equal(2UL, node.Last);

        node.Acks(2, 2);
        Assert.Equal("1 2 3 4", node.Core.Membership.Line());
        Assert.Equal(ProposeResult.Refused, node.ProposeChange(Config.Change(Config.Add(5))));
        AckAll(node);
        Assert.Equal(ProposeResult.Accepted, node.ProposeChange(Config.Change(Config.Add(5))));
    }

    [Fact]
    public void M02_ANewLeaderAssumesThatItsTailHoldsAChange()
    {
        var node = new Node(1, new Setup { Term = 1, Log = [1, 1, 1], Commit = 1 });
        node.BecomeLeader();
        Assert.Equal(ProposeResult.Refused, node.ProposeChange(Config.Change(Config.Add(4))));

        node.HoldApply = true;
        node.Acks(2, 4);
        node.Apply(1);
        Assert.Equal(ProposeResult.Refused, node.ProposeChange(Config.Change(Config.Add(4))));
        node.Apply(1);

        Assert.Equal(ProposeResult.Accepted, node.ProposeChange(Config.Change(Config.Add(4))));
    }

    [Fact]
    public void M03_AChangeComesIntoForceOnEachNodeAsItApplies()
    {
        var cluster = new Cluster();
        cluster.Elect(1);
        cluster[2].HoldApply = true;

        cluster.ProposeChange(1, Config.Change(Config.Learner(4)));
        cluster.Tick(Setup.HeartbeatTicks, 1);

        Assert.Equal(3UL, cluster[2].Core.Commit);
        Assert.Equal(["1 2 3|4", "1 2 3", "1 2 3|4"], cluster.Nodes.Select(node => node.Core.Membership.Line()));
        cluster[2].Apply();
        Assert.Equal("1 2 3|4", cluster[2].Core.Membership.Line());
    }

    [Fact]
    public void M05_AnExplicitJointConfigurationStaysUntilItIsLeft()
    {
        var node = LeaderOf(Config.Of(1, 2, 3));
        Assert.Equal(ProposeResult.Refused, node.ProposeChange(ConfigurationChange.LeaveJoint));
        node.ProposeChange(Config.Joint(Config.Add(4)));
        node.Acks(2, 2);
        Assert.Equal("1 2 3 4 & 1 2 3", node.Core.Membership.Line());

        node.Propose();
        AckAll(node);
        Assert.Equal((3UL, 3UL), (node.Last, node.AppliedIndex));
        Assert.Equal(ProposeResult.Refused, node.ProposeChange(Config.Change(Config.Add(5))));
        Assert.Equal(ProposeResult.Accepted, node.ProposeChange(ConfigurationChange.LeaveJoint));
        AckAll(node);

        Assert.Equal("1 2 3 4", node.Core.Membership.Line());
        Assert.Equal(5UL, node.Last);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void M06_TheLeaderLeavesAnImplicitJointConfigurationOnce(bool twoVoters)
    {
        var node = LeaderOf(Config.Of(1, 2, 3));
        node.ProposeChange(twoVoters
            ? Config.Change(Config.Add(4), Config.Add(5))
            : Config.JointThatLeaves(Config.Add(4), Config.Learner(5)));
        node.Propose();
        node.Acks(2, 2);
        Assert.True(node.Core.Membership.IsJoint);
        Assert.Equal(4UL, node.Last);

        node.Propose();
        Assert.Equal(5UL, node.Last);
        foreach (var peer in node.Core.Peers)
        {
            node.Acks(peer.Id, 3);
        }

        Assert.Equal((3UL, 5UL), (node.AppliedIndex, node.Last));
        AckAll(node);

        Assert.Equal(twoVoters ? "1 2 3 4 5" : "1 2 3 4|5", node.Core.Membership.Line());
        AckAll(node);
        Assert.Equal((6UL, 6UL), (node.Last, node.AppliedIndex));
        Assert.Single(node.Applied, IsLeave);
    }

    [Fact]
    public void M06_ANewLeaderLeavesTheJointConfigurationOfTheOldOne()
    {
        var joint = Config.Of(1, 2, 3).After(Config.JointThatLeaves(Config.Add(4)));
        var node = new Node(1, new Setup { Membership = Membership.Decode(joint.Encode()) });
        node.BecomeLeader();
        Assert.True(node.Core.Membership.AutoLeave);

        AckAll(node);
        AckAll(node);

        Assert.Equal("1 2 3 4", node.Core.Membership.Line());
        Assert.Single(node.Applied, IsLeave);
    }

    [Fact]
    public void M07_InAJointConfigurationCommitNeedsBothHalves()
    {
        var node = LeaderOf(Joint());
        node.Propose();
        foreach (var (peer, commit) in new[] { (2UL, 1UL), (3UL, 1UL), (4UL, 2UL) })
        {
            node.Acks(peer, 2);
            Assert.Equal(commit, node.Core.Commit);
        }
    }

    [Theory]
    [InlineData("4+ 5+", CoreRole.Candidate)]
    [InlineData("4+ 2+", CoreRole.Leader)]
    [InlineData("2+ 3+", CoreRole.Candidate)]
    [InlineData("2+ 4- 5-", CoreRole.Follower)]
    [InlineData("4+ 2- 3-", CoreRole.Follower)]
    internal void M07_InAJointConfigurationAVoteNeedsBothHalves(string votes, CoreRole role)
    {
        var node = new Node(1, new Setup { Membership = Joint() });
        node.BecomeCandidate();

        foreach (var vote in votes.Split(' '))
        {
            node.Receives(VoteReply((ulong)(vote[0] - '0'), 1, granted: vote[1] == '+'));
        }

        Assert.Equal(role, node.Core.Role);
    }

    [Theory]
    [InlineData(2UL, 3UL, false)]
    [InlineData(4UL, 5UL, false)]
    [InlineData(2UL, 4UL, true)]
    public void M07_InAJointConfigurationALeaderHearsBothHalves(ulong first, ulong second, bool stays)
    {
        var node = LeaderOf(Joint());
        for (var tick = 0; tick <= 2 * Setup.ElectionTicks && node.Core.Role == CoreRole.Leader; tick++)
        {
            node.Receives(HeartbeatOk(first, 1));
            node.Receives(HeartbeatOk(second, 1));
            node.Tick();
        }

        Assert.Equal(stays ? CoreRole.Leader : CoreRole.Follower, node.Core.Role);
    }

    [Fact]
    public void M09_AGroupOfOneGrowsWithItsOwnQuorum()
    {
        var cluster = new Cluster(1);
        cluster.Campaign(1);
        cluster.Propose(1);
        cluster[1].Compact(2);

        cluster.ProposeChange(1, Config.Change(Config.Add(2)));
        Assert.Equal((3UL, "1 2"), (cluster[1].Core.Commit, cluster[1].Core.Membership.Line()));
        cluster.Start(2, new Setup { Membership = Membership.Empty });
        cluster.Tick(3 * Setup.HeartbeatTicks, 1);

        Assert.Contains(cluster.Delivered, message => message.Type == MessageType.InstallSnapshot);
        cluster.AssertEqualLogs();
        Assert.Equal("1 2", cluster[2].Core.Membership.Line());
    }

    [Fact]
    public void M10_WhatWaitedForTheRemovedNodeIsCommittedWithItsRemoval()
    {
        var node = new Node(1, new Setup { Membership = Config.Of(1, 2) });
        node.BecomeLeader(2);
        node.ProposeChange(Config.Change(Config.Remove(2)));
        node.Propose();
        Assert.Equal(1UL, node.Core.Commit);

        node.Acks(2, 2);

        // The third is what waited, the fourth ends the change.
        Assert.Equal(("1", 4UL), (node.Core.Membership.Line(), node.Core.Commit));
    }

    [Fact]
    public void M11_ALeaderOnItsWayOutDoesNotCountItselfInTheNewHalf()
    {
        var node = LeaderOf(Config.Of(1, 2, 3).After(Config.Joint(Config.Remove(1), Config.Add(4))));
        Assert.Equal("2 3 4 & 1 2 3", node.Core.Membership.Line());
        node.Propose();

        node.Acks(2, 2);
        Assert.Equal(1UL, node.Core.Commit);
        node.Acks(4, 2);

        Assert.Equal(2UL, node.Core.Commit);
    }

    /// <summary>A majority of those who stay must have on its disks that the change is committed: else they might need the vote
    /// of who left, and who left is stopped.</summary>
    [Fact]
    public void M13_ARemovedLeaderLeadsUntilTheOthersKnow()
    {
        var node = LeaderOf(Config.Of(1, 2, 3));
        node.ProposeChange(Config.Change(Config.Remove(1)));
        node.Acks(2, 2);
        Assert.Equal((CoreRole.Leader, "2 3"), (node.Core.Role, node.Core.Membership.Line()));
        Assert.Contains(node.Sent(), static message => message is { Type: MessageType.Append, To: 2, Commit: 2 });

        node.Acks(2, 3);
        Assert.Equal(CoreRole.Leader, node.Core.Role);
        node.Acks(3, 3);

        Assert.Equal((CoreRole.Follower, 3UL), (node.Core.Role, node.AppliedIndex));
        Assert.Single(node.Sent(), static message => message.Type == MessageType.TimeoutNow);
    }

    [Theory]
    [InlineData(2, 1)]
    [InlineData(3, 1)]
    [InlineData(4, 1)]
    [InlineData(4, 4)]
    public void M13_WhenAChangeIsOverWhoLeftAndTheLeaderCanBeStopped(int voters, ulong leaving)
    {
        var cluster = new Cluster(voters);
        cluster.Elect(1);
        cluster.Loses = message => message.From == 1 && !cluster[1].Core.IsChangePending;

        cluster.ProposeChange(1, Config.Change(Config.Remove(leaving)));
        cluster.Isolate(1);
        cluster.Isolate(leaving);
        var left = cluster.Nodes.Select(node => node.Id).Where(id => id != 1 && id != leaving).ToArray();
        cluster.Tick(4 * Setup.ElectionTicks, left);

        Assert.Single(left, id => cluster[id].Core.Role == CoreRole.Leader);
    }

    [Fact]
    public void M13_ARemovedLeaderStepsDownAndTheOthersElect()
    {
        var cluster = new Cluster();
        cluster.Elect(1);

        cluster.ProposeChange(1, Config.Change(Config.Remove(1)));
        Assert.Equal((CoreRole.Follower, "2 3"), (cluster[1].Core.Role, cluster[1].Core.Membership.Line()));
        cluster.Campaign(1);
        cluster.Tick(3 * Setup.ElectionTicks);

        Assert.Equal(CoreRole.Follower, cluster[1].Core.Role);
        Assert.Contains(cluster.Leader.Id, new[] { 2UL, 3UL });
        Assert.Equal("2 3", cluster.Leader.Core.Membership.Line());
    }

    [Fact]
    public void M14_ALeaderIsReplacedInOneJointChange()
    {
        var cluster = new Cluster();
        cluster.Elect(1);
        cluster.Start(4, new Setup());
        cluster.ProposeChange(1, Config.Joint(Config.Remove(1), Config.Add(4)));
        cluster.Tick(3 * Setup.HeartbeatTicks, 1);
        Assert.Equal("2 3 4 & 1 2 3", cluster[4].Core.Membership.Line());

        cluster[1].Do(core => core.TransferLeader(4));
        cluster.Tick(Setup.HeartbeatTicks, 4);
        Assert.Same(cluster[4], cluster.Leader);
        cluster.ProposeChange(4, ConfigurationChange.LeaveJoint);
        cluster.Tick(Setup.HeartbeatTicks, 4);

        Assert.All(new[] { 2UL, 3UL, 4UL }, id => Assert.Equal("2 3 4", cluster[id].Core.Membership.Line()));
        cluster.Campaign(1);
        Assert.Same(cluster[4], cluster.Leader);
        Assert.Equal(2UL, cluster[4].Core.Term);
    }

    [Fact]
    public void M15_ALeaderThatLeavesTheJointConfigurationItIsNotPartOfStepsDown()
    {
        var cluster = new Cluster();
        cluster.Elect(1);
        cluster.Start(4, new Setup());
        cluster.ProposeChange(1, Config.Joint(Config.Remove(1), Config.Add(4)));
        cluster.Tick(3 * Setup.HeartbeatTicks, 1);

        cluster.ProposeChange(1, ConfigurationChange.LeaveJoint);
        Assert.Equal((CoreRole.Follower, "2 3 4"), (cluster[1].Core.Role, cluster[1].Core.Membership.Line()));
        cluster.Elect(4);

        cluster.Tick(Setup.HeartbeatTicks, 4);
        Assert.Same(cluster[4], cluster.Leader);
        cluster.AssertEqualLogs(2, 3, 4);
    }

    /// <summary>The check cannot be turned off.</summary>
    [Fact]
    public void M16_AChangeIsRefusedWhileAnotherOneIsCommittedAndNotApplied()
    {
        var node = LeaderOf(Config.Of(1, 2, 3));
        node.HoldApply = true;
        node.ProposeChange(Config.Change(Config.Add(4)));
        node.Acks(2, 2);
        Assert.Equal(2UL, node.Core.Commit);

        Assert.Equal(ProposeResult.Refused, node.ProposeChange(Config.Change(Config.Add(5))));

        Assert.Equal(2UL, node.Last);
    }

    [Fact]
    public void M17_AFreshMemberDoesNotCostTheLeaderItsQuorum()
    {
        var node = new Node(1, new Setup { Membership = Config.Of(1) });
        node.BecomeLeader();
        node.Tick(Setup.ElectionTicks - 1);

        node.ProposeChange(Config.Change(Config.Add(2)));
        node.Tick(2);

        Assert.Equal((CoreRole.Leader, "1 2"), (node.Core.Role, node.Core.Membership.Line()));
    }

    [Fact]
    public void M24_APromotedLearnerCampaigns()
    {
        var learner = new Node(2, new Setup { Term = 1, Membership = Config.Of(1, 3).WithLearners(2) });
        learner.Tick(2 * Setup.ElectionTicks);
        Assert.Equal(CoreRole.Follower, learner.Core.Role);

        var promotion = new LogEntry(At(1, 1), EntryKind.Configuration, Config.Change(Config.Promote(2)).Encode());
        learner.Receives(AppendEntries(1, 1, At(0, 0), [promotion], commit: 1));
        Assert.Equal("1 2 3", learner.Core.Membership.Line());
        learner.Tick(2 * Setup.ElectionTicks);

        Assert.Equal(CoreRole.PreCandidate, learner.Core.Role);
    }

    [Fact]
    public void M25_TheAcksOfAFormerMemberMeanNothing()
    {
        var node = LeaderOf(Config.Of(1, 2, 3));
        node.ProposeChange(Config.Change(Config.Remove(3)));
        node.Acks(2, 2);
        Assert.Equal("1 2", node.Core.Membership.Line());
        node.Propose();
        node.Sent();

        node.Acks(3, 3);
        node.Receives(AppendRejected(3, 1, 3, At(0, 0)));
        node.Receives(HeartbeatOk(3, 1));
        node.Do(core => core.ReportUnreachable(3));
        node.Do(core => core.ReportSnapshot(3, At(2, 1), ok: true));

        Assert.Equal((CoreRole.Leader, 2UL), (node.Core.Role, node.Core.Commit));
        Assert.DoesNotContain(node.Core.Peers, peer => peer.Id == 3);
        Assert.DoesNotContain(node.Sent(), message => message.To == 3);
    }

    private static Membership Joint() => Config.Of(1, 2, 3).After(Config.Joint(
        Config.Remove(2), Config.Remove(3), Config.Add(4), Config.Add(5)));

    private static Node LeaderOf(Membership membership)
    {
        var node = new Node(1, new Setup { Membership = membership });
        node.BecomeLeader(membership.Voters.Concat(membership.Outgoing).Where(id => id != 1).Distinct().ToArray());
        return node;
    }

    private static void AckAll(Node node)
    {
        foreach (var peer in node.Core.Peers)
        {
            node.Acks(peer.Id, node.Last);
        }
    }

    private static bool IsLeave(LogEntry entry) =>
        entry.Kind == EntryKind.Configuration && ConfigurationChange.Decode(entry.Payload.Span).Changes.Count == 0;
}
