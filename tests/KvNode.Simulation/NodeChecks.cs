using KvNode.Raft;
using KvNode.Raft.Core;
using KvNode.Raft.Wal;

namespace KvNode.Simulation;

/// <summary>What must hold for one node after each event, told from what it said and did before, over all its lives.</summary>
internal sealed class NodeChecks
{
    private const int MirrorMask = 4095;

    /// <summary>Entries of this node that the ledger has seen, by the low bits of the index.</summary>
    private readonly EntryId[] _mirror = new EntryId[MirrorMask + 1];

    private ulong _noted;
    private EntryId _last;
    private ulong _term;
    private ulong _vote;
    private ulong _commit;
    private ulong _ledTerm;
    private EntryId _durable;

    // What it told others: a term it has entered, and who got its vote there.
    private ulong _promisedTerm;
    private ulong _promisedVote;

    /// <summary>The configuration in force after the event before.</summary>
    public Membership MembershipBefore { get; private set; } = Membership.Empty;

    /// <summary>The log was opened again: everything promised and synced must be there.</summary>
    public void OnRecovered(SimulationNode node, WriteAheadLog log)
    {
        var state = log.HardState;
        Expect.That(
            state.Term > _promisedTerm
            || (state.Term == _promisedTerm && (_promisedVote == 0 || state.Vote == _promisedVote))
            || _promisedTerm == 0,
            "forgotten vote",
            $"node {node.Number} promised term {_promisedTerm}, vote {_promisedVote}, and comes back with {state}");
        Expect.That(
            _durable.Index <= log.BeforeFirst.Index
            || _durable.Index <= node.Machine.Durable.Index
            || (log.TryTerm(_durable.Index, out var term) && term == _durable.Term),
            "lost entries",
            $"node {node.Number} had {_durable} durable and comes back with a log up to {log.Last}");
    }

    public void OnStarted(SimulationNode node)
    {
        var core = node.Core!;
        _noted = core.Applied;
        _last = default;
        _term = core.Term;
        _vote = core.Vote;
        _commit = core.Commit;
        _ledTerm = 0;
        MembershipBefore = core.Membership;
    }

    public void OnStopping(SimulationNode node)
    {
        node.NoteCommits();
        _durable = default;
        // What the core has begun to cut off may be gone before the log knows that it wrote that down.
        var index = Math.Min(node.Log?.DurableIndex ?? 0, node.Core?.Durable ?? ulong.MaxValue);
        if (node.Log is { } log && log.TryTerm(index, out var term))
        {
            _durable = new EntryId(term, index);
        }
    }

    /// <summary>The other nodes may count on what a message says from the moment it is sent.</summary>
    public void OnSending(SimulationNode node, in Message message)
    {
        var core = node.Core!;
        var isPreVote = message.Type is MessageType.PreVote or MessageType.PreVoteResponse;
        Expect.That(
            message.Term <= core.Term || isPreVote, "message term", $"node {node.Number} sends {message.Type} of term {message.Term}");
        if (message.Type == MessageType.Vote)
        {
            Promise(message.Term, node.Id);
        }
        else if (message is { Type: MessageType.VoteResponse, Reject: false })
        {
            Promise(message.Term, message.To);
        }
        else if (message is { Type: MessageType.AppendResponse, Reject: false })
        {
            CheckAck(node, message);
        }
    }

    /// <summary>Compares what was committed since the last time.</summary>
    public void NoteCommits(SimulationNode node, Ledger ledger)
    {
        var core = node.Core!;
        while (_noted < core.Commit)
        {
            var next = _noted + 1;
            if (next < core.Log.FirstInMemory)
            {
                // A snapshot took the place of these.
                ledger.OnPosition(node.Number, core.Log.BeforeFirst);
                next = Math.Min(core.Commit, core.Log.FirstInMemory - 1);
            }
            else if (ledger.OnCommitted(node.Number, core.Log.At(next), core.Term))
            {
                node.CheckQuorum(core.Log.At(next).Id);
            }

            _noted = next;
        }
    }

    public void AfterEvent(SimulationNode node, Ledger ledger)
    {
        var core = node.Core!;
        Expect.That(core.Term >= _term, "term", $"node {node.Number} goes from term {_term} to {core.Term}");
        Expect.That(
            core.Term > _term || _vote == 0 || core.Vote == _vote,
            "two votes",
            $"node {node.Number} votes for {_vote} and {core.Vote} in term {_term}");
        Expect.That(core.Commit >= _commit, "commit", $"node {node.Number} goes from commit {_commit} to {core.Commit}");
        Expect.That(
            node.Machine.Applied.Index <= core.Commit,
            "applied uncommitted",
            $"node {node.Number} has applied {node.Machine.Applied}, committed {core.Commit}");
        (_term, _vote, _commit) = (core.Term, core.Vote, core.Commit);
        if (core.Log.Last != _last)
        {
            _last = core.Log.Last;
            CheckTail(node, ledger);
        }

        NoteCommits(node, ledger);
        if (core.Role == CoreRole.Leader && _ledTerm != core.Term)
        {
            _ledTerm = core.Term;
            ledger.OnLeader(node.Id, core.Term);
            CheckComplete(node, ledger);
        }

        MembershipBefore = core.Membership;
    }

    private void Promise(ulong term, ulong vote)
    {
        if (term > _promisedTerm)
        {
            (_promisedTerm, _promisedVote) = (term, vote);
        }
        else if (term == _promisedTerm)
        {
            Expect.That(
                _promisedVote == 0 || _promisedVote == vote, "two votes", $"votes for {_promisedVote} and {vote} in term {term}");
            _promisedVote = vote;
        }
    }

    private void CheckAck(SimulationNode node, in Message message)
    {
        if (message.Term > _promisedTerm)
        {
            (_promisedTerm, _promisedVote) = (message.Term, 0);
        }

        var (core, log) = (node.Core!, node.Log!);
        var index = message.Entry.Index;
        var isThere = index <= log.DurableIndex
            && (!core.Log.TryTerm(index, out var term) || !log.TryTerm(index, out var written) || term == written);
        Expect.That(
            isThere || index <= node.Machine.Durable.Index,
            "ack before durable",
            $"node {node.Number} acknowledges {index}, durable is {log.DurableIndex}");
    }

    /// <summary>Log matching, for the entries that this node did not have before.</summary>
    private void CheckTail(SimulationNode node, Ledger ledger)
    {
        var log = node.Core!.Log;
        for (var index = Math.Max(log.FirstInMemory, _noted + 1); index <= log.Last.Index; index++)
        {
            ref readonly var entry = ref log.At(index);
            ref var seen = ref _mirror[(int)index & MirrorMask];
            if (seen != entry.Id && log.TryTerm(index - 1, out var before))
            {
                ledger.OnWritten(node.Number, entry, before);
                seen = entry.Id;
            }
        }
    }

    /// <summary>Leader completeness: whoever comes to lead has everything committed in earlier terms.</summary>
    private static void CheckComplete(SimulationNode node, Ledger ledger)
    {
        var log = node.Core!.Log;
        var index = ledger.CommittedBefore(node.Core.Term);
        var has = index <= log.BeforeFirst.Index || (log.TryTerm(index, out var term) && term == ledger.TermOf(index));
        Expect.That(
            has, "leader completeness", $"node {node.Number} leads term {node.Core.Term} without entry {index}, log up to {log.Last}");
    }
}
