using KvNode.Raft.Core;
using Xunit;

namespace KvNode.Raft.Tests.Core.Units;

/// <summary>What may be said, and what may be applied, before and after the disk has it.</summary>
public sealed class PersistenceTests
{
    [Fact]
    public void ManyAppendsAndOneWriteMakeOneAck()
    {
        var node = new Lone();
        Assert.Empty(node.Append(1, default, 2).Messages);
        Assert.Empty(node.Append(1, new EntryId(1, 2), 2).Messages);
        Assert.Empty(node.Append(1, new EntryId(1, 4), 1).Messages);
        Assert.Equal(3ul, node.Ready.AfterPersistSequence);
        node.Core.OnPersisted(3);
        Assert.Equal(5ul, Lone.Only(node.Take().Messages, MessageType.AppendResponse, 2).Entry.Index);
    }

    [Fact]
    public void EachWriteAcksWhatItMadeDurable()
    {
        var node = new Lone();
        _ = node.Append(1, default, 2);
        _ = node.Append(1, new EntryId(1, 2), 2);
        node.Core.OnPersisted(1);
        Assert.Equal(2ul, Lone.Only(node.Take().Messages, MessageType.AppendResponse, 2).Entry.Index);
        Assert.True(node.Take().IsEmpty);
        node.Core.OnPersisted(2);
        Assert.Equal(4ul, Lone.Only(node.Take().Messages, MessageType.AppendResponse, 2).Entry.Index);
    }

    [Fact]
    public void AnAckWaitsForItsTermEvenWhenItsEntriesAreOld()
    {
        var node = new Lone();
        _ = node.Append(1, default, 2);
        _ = node.PersistAll();
        Assert.Empty(node.Append(2, new EntryId(1, 2), 0, from: 3).Messages);
        Assert.Equal(new HardState(2, 0), node.Ready.Persist.HardState);
        node.Core.OnPersisted(2);
        Assert.Equal(2ul, Lone.Only(node.Take().Messages, MessageType.AppendResponse, 3).Entry.Index);
    }

    [Fact]
    public void AWriteOfAnEarlierTermAcksNothingToTheNewLeader()
    {
        var node = new Lone();
        _ = node.Append(1, default, 3);
        _ = node.Step(new Message { Type = MessageType.Heartbeat, From = 3, Term = 2 });
        node.Core.OnPersisted(node.Ready.AfterPersistSequence);
        Assert.Empty(node.Take().Messages);
        Assert.Equal(3ul, node.Core.Durable);
    }

    /// <summary>Three leaders write the same index while the first write is under way: only the last one counts.</summary>
    [Fact]
    public void AnOldWriteSaysNothingAboutWhatCameOverIt()
    {
        var node = new Lone();
        _ = node.Append(1, default, 2);
        var overwritten = node.Append(2, default, 1, from: 3);
        Assert.Equal((1ul, 1), (overwritten.Persist.TruncateFrom, overwritten.Persist.Entries.Length));
        _ = node.Append(3, default, 2);
        node.Core.OnPersisted(1);
        Assert.Equal(0ul, node.Core.Durable);
        node.Core.OnPersisted(2);
        Assert.Equal(0ul, node.Core.Durable);
        Assert.Empty(node.Take().Messages);
        node.Core.OnPersisted(3);
        Assert.Equal(2ul, node.Core.Durable);
        Assert.Equal(2ul, Lone.Only(node.Take().Messages, MessageType.AppendResponse, 2).Entry.Index);
    }

    [Fact]
    public void WhatNoWriteContainsNeedsNoTruncation()
    {
        var node = new Lone();
        node.Core.Step(new Message
        {
            Type = MessageType.Append,
            From = 2,
            To = 1,
            Term = 1,
            Entries = new LogEntry[] { new(new EntryId(1, 1), EntryKind.Empty, default) },
        });
        var persist = node.Append(2, default, 2, from: 3).Persist;
        Assert.Equal((0ul, 2), (persist.TruncateFrom, persist.Entries.Length));
        Assert.Equal(new HardState(2, 0), persist.HardState);
    }

    [Fact]
    public void CommittedEntriesAreAppliedOnlyOnceTheyAreDurableHere()
    {
        var leader = Lone.Leader();
        var index = leader.Propose();
        _ = leader.Take();
        _ = leader.Ack(2, index);
        _ = leader.Ack(3, index);
        Assert.Equal(index, leader.Core.Commit);
        Assert.True(leader.Ready.Committed.IsEmpty);
        var ready = leader.PersistAll();
        Assert.Equal(index, ready.Committed.Span[0].Id.Index);
        Assert.True(leader.Take().Committed.IsEmpty);
    }

    [Fact]
    public void TheBytesOnTheirWayToTheStateMachineAreLimited()
    {
        var size = new LogEntry(default, EntryKind.Normal, new byte[4]).Size;
        var node = new Lone(options => options with { ApplyBytesMax = (2 * size) + 1 });
        _ = node.Append(1, default, 5, commit: 5);
        Assert.Equal(2, node.PersistAll().Committed.Length);
        Assert.True(node.Take().Committed.IsEmpty);
        node.Core.OnApplied(1);
        Assert.Equal(3ul, Assert.Single(node.Take().Committed.ToArray()).Id.Index);
        node.Core.OnApplied(3);
        Assert.Equal(2, node.Take().Committed.Length);
    }

    [Fact]
    public void ARequestForVotesAndAVoteWaitForTheDisk()
    {
        var node = new Lone();
        node.Core.Campaign();
        _ = node.Step(new Message { Type = MessageType.PreVoteResponse, From = 2, Term = 1 });
        Assert.Equal(CoreRole.Candidate, node.Core.Role);
        Assert.Equal(new HardState(1, 1), node.Ready.Persist.HardState);
        Assert.DoesNotContain(node.Ready.Messages, static message => message.Type == MessageType.Vote);
        Assert.Equal(2, node.Ready.MessagesAfterPersist.Count);
        Assert.Equal(node.Ready.Persist.Sequence, node.Ready.AfterPersistSequence);

        var voter = new Lone();
        _ = voter.Step(new Message { Type = MessageType.Vote, From = 2, Term = 1 });
        Assert.Empty(voter.Ready.Messages);
        Assert.Equal(new HardState(1, 2), voter.Ready.Persist.HardState);
        Assert.False(Lone.Only(voter.Ready.MessagesAfterPersist, MessageType.VoteResponse, 2).Reject);
    }

    [Fact]
    public void TheOnlyVoterLeadsWhenItsVoteIsDurable()
    {
        var node = new Lone(state: new InitialState { Membership = TinyCluster.VotersTo(1) });
        node.Core.Campaign();
        _ = node.Take();
        Assert.Equal(CoreRole.Candidate, node.Core.Role);
        _ = node.PersistAll();
        Assert.Equal(CoreRole.Leader, node.Core.Role);
        Assert.Equal(0ul, node.Core.Commit);
        _ = node.PersistAll();
        Assert.Equal(1ul, node.Core.Commit);
    }

    [Fact]
    public void ACommitIndexAloneIsNotWorthAWrite()
    {
        var node = new Lone();
        _ = node.Append(1, default, 2);
        _ = node.PersistAll();
        _ = node.Append(1, new EntryId(1, 2), 0, commit: 2);
        Assert.Equal(0ul, node.Ready.Persist.Sequence);
        Assert.Equal(2ul, node.Core.Commit);
    }
}
