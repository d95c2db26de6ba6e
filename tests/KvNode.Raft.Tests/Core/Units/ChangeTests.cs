using KvNode.Raft.Core;
using Xunit;
using static KvNode.Raft.MembershipChangeKind;

namespace KvNode.Raft.Tests.Core.Units;

/// <summary>Changes of members, transfers and snapshots, through small clusters.</summary>
public sealed class ChangeTests
{
    [Fact]
    public void ANewNodeGetsASnapshotAndThenTheLog()
    {
        var cluster = TinyCluster.Led(3);
        cluster.Propose(1);
        cluster.Settle();
        cluster.Nodes[1].Compact(kept: 0);
        _ = cluster.Join(4);
        Change(cluster, 1, (AddLearner, 4ul));
        cluster.Tick(3);
        Assert.Equal(cluster.Nodes[1].State, cluster.Nodes[4].State);
        Assert.Equal(4ul, cluster[4].Log.BeforeFirst.Index);
        cluster.Propose(1);
        cluster.Settle();
        Assert.Equal(5ul, cluster[4].Applied);
        Change(cluster, 1, (Promote, 4ul));
        Assert.Equal([1, 2, 3, 4], cluster[4].Membership.Voters);
    }

    [Fact]
    public void APeerBehindWhatIsInMemoryIsServedFromTheDisk()
    {
        var cluster = TinyCluster.Led(3);
        cluster.Drops = static message => message.To == 3;
        for (var i = 0; i < 40; i++)
        {
            cluster.Propose(1);
        }

        cluster.Settle();
        cluster[1].Log.Evict(ulong.MaxValue);
        Assert.Equal(42ul, cluster[1].Log.FirstInMemory);
        cluster.Drops = static _ => false;
        cluster.Tick(3);
        Assert.Equal(41ul, cluster[3].Applied);
        Assert.Equal(0ul, cluster[3].Log.BeforeFirst.Index);
        Assert.DoesNotContain(cluster.Sent, static message => message.Type == MessageType.InstallSnapshot);
    }

    [Fact]
    public void AFailedFetchIsTriedAgainWhenThePeerShowsLife()
    {
        var leader = Lone.Leader();
        for (var i = 0; i < 5; i++)
        {
            _ = leader.Propose();
        }

        _ = leader.PersistAll();
        _ = leader.Ack(2, 6);
        leader.Core.OnApplied(6);
        leader.Core.Log.Evict(6);
        leader.Core.ReportUnreachable(3);
        _ = leader.Beat(3, 0);
        Assert.True(Lone.Only(leader.Ready.Messages, MessageType.Append, 3).Entries.IsEmpty);
        _ = leader.Ack(3, 1);
        var request = Assert.Single(leader.Ready.Fetches);
        Assert.Equal((3ul, 2ul), (request.Peer, request.FirstIndex));
        leader.Core.OnFetched(3, default);
        Assert.Empty(leader.Take().Fetches);
        Assert.Single(leader.Beat(3, 0).Fetches);
        var entries = new LogEntry[] { new(new EntryId(1, 2), EntryKind.Normal, new byte[8]) };
        leader.Core.OnFetched(3, entries);
        Assert.Equal(1, Lone.Only(leader.Take().Messages, MessageType.Append, 3).Entries.Length);
        Assert.Equal(3ul, Assert.Single(leader.Ready.Fetches).FirstIndex);
    }

    [Fact]
    public void TheLeaderLeavesAJointConfigurationItself()
    {
        var cluster = TinyCluster.Led(3);
        cluster.Nodes[1].Compact(kept: 0);
        _ = cluster.Join(4);
        Change(cluster, 1, (Remove, 3ul), (AddVoter, 4ul));
        cluster.Tick(3);
        Assert.Equal([1, 2, 4], cluster[1].Membership.Voters);
        Assert.False(cluster[1].Membership.IsJoint);
        Assert.Equal(cluster[1].Membership, cluster[4].Membership);
        Assert.DoesNotContain(3ul, cluster[1].Peers.Select(static peer => peer.Id));
    }

    [Fact]
    public void OnlyOneChangeIsUnderWay()
    {
        var leader = Lone.Leader();
        var change = new ConfigurationChange(ChangeTransition.Auto, [new(AddLearner, 4, "d")]);
        Assert.Equal(ProposeResult.Accepted, leader.Core.ProposeChange(change, out var id, out _));
        Assert.Equal(ProposeResult.Refused, leader.Core.ProposeChange(change, out _, out var pending));
        Assert.NotNull(pending);
        _ = leader.PersistAll();
        _ = leader.Ack(2, id.Index);
        Assert.Equal(ProposeResult.Refused, leader.Core.ProposeChange(change, out _, out _));
        leader.Core.OnApplied(id.Index);
        Assert.Equal([4], leader.Core.Membership.Learners);
        Assert.Equal(id.Index + 1, leader.Core.Log.Last.Index);
        Assert.Equal(ProposeResult.Refused, leader.Core.ProposeChange(change, out _, out var stillPending));
        Assert.Equal(pending, stillPending);
        _ = leader.PersistAll();
        _ = leader.Ack(2, id.Index + 1);
        leader.Core.OnApplied(id.Index + 1);
        Assert.Equal(ProposeResult.Refused, leader.Core.ProposeChange(change, out _, out var already));
        Assert.NotEqual(pending, already);
        Assert.Equal(id.Index + 1, leader.Core.Log.Last.Index);
    }

    [Fact]
    public void ARemovedLeaderStepsDownAndTheOthersGoOn()
    {
        var cluster = TinyCluster.Led(3);
        Change(cluster, 1, (Remove, 1ul));
        Assert.Equal(CoreRole.Follower, cluster[1].Role);
        cluster.Tick(40);
        Assert.Equal(CoreRole.Follower, cluster[1].Role);
        Assert.Contains(cluster[2].Leader, new ulong[] { 2, 3 });
    }

    /// <summary>The leader of two leaves; only it knows that this is committed, and its log is longer. Its refusal says so.</summary>
    [Fact]
    public void TheOneLeftBehindLearnsFromARefusedVoteThatItIsAlone()
    {
        var cluster = TinyCluster.Led(2);
        var leaves = new ConfigurationChange(ChangeTransition.Auto, [new(Remove, 1, "")]);
        Assert.Equal(ProposeResult.Accepted, cluster[1].ProposeChange(leaves, out var change, out _));
        cluster.Drops = static message => message.To == 1;
        cluster.Settle();
        cluster.Drops = static message => message.To == 2;
        cluster.Propose(1);
        cluster[1].Step(new Message
        {
            Type = MessageType.AppendResponse,
            From = 2,
            To = 1,
            Term = cluster[1].Term,
            Entry = new EntryId(0, change.Index),
        });
        cluster.Tick(20);
        Assert.Equal(CoreRole.Follower, cluster[1].Role);
        Assert.True(cluster[2].Commit < change.Index);
        cluster.Drops = static _ => false;
        cluster.Tick(60);
        Assert.Equal(CoreRole.Leader, cluster[2].Role);
        Assert.Equal([2], cluster[2].Membership.Voters);
    }

    [Fact]
    public void LeadershipGoesToTheChosenNodeDespiteALiveLeader()
    {
        var cluster = TinyCluster.Led(3);
        cluster.Propose(1);
        cluster[2].TransferLeader(3);
        cluster.Settle();
        Assert.Equal(CoreRole.Leader, cluster[3].Role);
        Assert.Equal(3ul, cluster[1].Leader);
        Assert.True(Assert.Single(cluster.Sent, static message => message is { Type: MessageType.Vote, To: 1 }).Force);
    }

    [Fact]
    public void ATransferThatDoesNotSucceedIsCalledOff()
    {
        var cluster = TinyCluster.Led(3);
        cluster.Drops = static message => message.To == 3 || message.From == 3;
        cluster.Propose(1);
        cluster.Settle();
        cluster[1].TransferLeader(3);
        Assert.Equal(ProposeResult.Transferring, cluster[1].Propose(EntryKind.Normal, default, out _));
        cluster.Tick(9);
        Assert.Equal(3ul, cluster[1].TransferTarget);
        cluster.Tick();
        Assert.Equal(0ul, cluster[1].TransferTarget);
        cluster.Propose(1);
    }

    [Fact]
    public void ANodeThatResignedLeavesTheElectionToOthers()
    {
        var cluster = TinyCluster.Led(1);
        cluster[1].Resign();
        cluster.Tick(20);
        Assert.Equal(CoreRole.Follower, cluster[1].Role);
        cluster.Tick(20);
        Assert.Equal(CoreRole.Leader, cluster[1].Role);
    }

    [Fact]
    public void ASnapshotCountsWhenItIsDurable()
    {
        var node = new Lone();
        _ = node.Append(1, default, 3, commit: 1);
        var before = node.Ready.AfterPersistSequence;
        var membership = TinyCluster.VotersTo(4);
        Assert.True(node.Core.OnSnapshotReceived(2, 1, new EntryId(1, 9), membership));
        var ready = node.Append(1, new EntryId(1, 9), 2, commit: 10);
        Assert.Equal(new EntryId(1, 9), ready.Persist.Snapshot);
        Assert.Equal(2, ready.Persist.Entries.Length);
        Assert.Equal(0ul, ready.Persist.TruncateFrom);
        var sequence = ready.Persist.Sequence;
        node.Core.OnPersisted(before);
        Assert.Equal((0ul, 3), (node.Core.Applied, node.Core.Membership.Voters.Count));
        Assert.DoesNotContain(node.Take().Messages, static message => message.Entry.Index > 1);
        for (var tick = 0; tick < 40; tick++)
        {
            node.Core.Tick();
        }

        Assert.Equal(CoreRole.Follower, node.Core.Role);
        node.Core.OnPersisted(sequence);
        Assert.Equal((9ul, 11ul), (node.Core.Applied, node.Core.Durable));
        Assert.Equal(membership, node.Core.Membership);
        ready = node.Take();
        Assert.Equal(11ul, Lone.Only(ready.Messages, MessageType.AppendResponse, 2).Entry.Index);
        Assert.Equal(10ul, Assert.Single(ready.Committed.ToArray()).Id.Index);
    }

    [Fact]
    public void ASnapshotThatTheLogHasIsAnsweredFromIt()
    {
        var node = new Lone();
        _ = node.Append(1, default, 5, commit: 1);
        _ = node.PersistAll();
        Assert.False(node.Core.OnSnapshotReceived(2, 1, new EntryId(1, 4), TinyCluster.VotersTo(3)));
        var ready = node.Take();
        Assert.Equal(4ul, node.Core.Commit);
        Assert.Equal(5ul, Lone.Only(ready.Messages, MessageType.AppendResponse, 2).Entry.Index);
        Assert.Equal(5ul, node.Core.Log.Last.Index);
    }

    private static void Change(
        TinyCluster cluster, ulong leader, params ReadOnlySpan<(MembershipChangeKind Kind, ulong Id)> parts)
    {
        var changes = new List<NodeChange>();
        foreach (var (kind, id) in parts)
        {
            changes.Add(new NodeChange(kind, id, $"n{id}"));
        }

        var change = new ConfigurationChange(ChangeTransition.Auto, changes);
        Assert.Equal(ProposeResult.Accepted, cluster[leader].ProposeChange(change, out _, out _));
        cluster.Settle();
    }
}
