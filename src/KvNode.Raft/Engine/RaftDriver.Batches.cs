using System.Runtime.InteropServices;
using KvNode.Raft.Core;
using State = KvNode.Raft.Engine.OutstandingBatches.State;

namespace KvNode.Raft.Engine;

// The way of this node's batches and of those forwarded to it: taken, numbered, put into an entry here or brought to the
// leader, and given again whenever the leader or the way to it changes.
internal sealed partial class RaftDriver
{
    // Why a leader does not take a batch. ON THE WIRE.
    private const byte RefusedNow = 1;
    private const byte RefusedForGood = 2;

    private readonly List<SubBatch> _gathered = [];
    private readonly List<(SubBatch Batch, Transport.FrameBuffer? Buffer)> _forwards = [];
    private long _gatheredBytes;
    private long _waitingBytes;
    private ulong _sequence;
    private ulong _readContext;
    private bool _retryForwards;
    private bool _writesWaiting;
    private bool _readsWaiting;
    private long _queuedSince;

    private string? _excluded;

    /// <summary>There will be no leader for this node any more: its batches are answered so at once. Raft thread.</summary>
    public void Exclude(string reason)
    {
        _excluded = reason;
        _parts.Outstanding.Visit(reason, static (reason, ref item) =>
        {
            if (item.State != State.Failed && item.State != State.Confirmed)
            {
                item.GiveUp(reason);
            }

            return true;
        });
        AnswerSoon();
    }

    private bool IsLeader => _core.Role == CoreRole.Leader;

    /// <summary>Takes what this node's clients have gathered, if it can go somewhere.</summary>
    private void SealBatches()
    {
        if (_mailbox.BatchCount == 0)
        {
            _queuedSince = 0;
            return;
        }

        if (_queuedSince == 0)
        {
            _queuedSince = _now;
        }

        while (_mailbox.BatchCount > 0 && MaySeal() && _mailbox.TryTakeBatch(out var batch))
        {
            Seal(batch!, RefusalNow());
        }
    }

    private bool MaySeal()
    {
        if (IsLeader)
        {
            return _waitingBytes < _options.EntryBytesSoft && _core.TransferTarget == 0
                && _core.Log.Last.Index - _core.Commit < (ulong)_options.EntriesInFlightMax;
        }

        if (RefusesForFullDisk is not null)
        {
            return true;
        }

        if (_core.Leader == 0)
        {
            return _excluded is not null || _options.Follower == FollowerMode.Refuse
                || (_queuedSince != 0 && _now - Math.Max(_queuedSince, _noLeaderSince) > LeaderWaitNs);
        }

        return _options.Follower != FollowerMode.Forward
            || (_parts.Outstanding.Writes < _options.ForwardsInFlightMax && _parts.Outstanding.Bytes <= _options.ForwardBytesMax);
    }

    /// <summary>Not the leader, and what the leader would make of a batch could not be applied here. Not where the leader is
    /// named anyway: there the client can go on.</summary>
    private string? RefusesForFullDisk =>
        !IsLeader && (_core.Leader == 0 || _options.Follower == FollowerMode.Forward) ? _persist.Refusal : null;

    private long LeaderWaitNs => (long)_options.LeaderWait.TotalNanoseconds;

    /// <summary>Why a batch cannot be executed now, certainly; null when it can be tried.</summary>
    private ProposalOutcome? RefusalNow()
    {
        if (IsLeader && _excluded is null)
        {
            return ((_alone ? _persist.Refusal : null) ?? _parts.Machine.WriteRefusal) is { } refusal
                ? new ProposalOutcome(ProposalStatus.Dropped, Reason: refusal)
                : null;
        }

        if (_excluded is { } reason)
        {
            return new ProposalOutcome(ProposalStatus.NoLeader, Reason: reason);
        }

        if (RefusesForFullDisk is { } full)
        {
            return new ProposalOutcome(ProposalStatus.Dropped, Reason: full);
        }

        if (_core.Leader == 0 && _options.Follower != FollowerMode.Refuse)
        {
            return new ProposalOutcome(ProposalStatus.NoLeader);
        }

        return _options.Follower != FollowerMode.Forward
            ? new ProposalOutcome(ProposalStatus.NotLeader, AddressOf(_core.Leader))
            : null;
    }

    private string? AddressOf(ulong node) => _membership.Addresses.TryGetValue(node, out var address) ? address : null;

    private void Seal(ProposalBatch batch, ProposalOutcome? refusal)
    {
        var payload = batch.Seal();
        var item = new OutstandingBatches.Item
        {
            Batch = batch,
            Payload = payload,
            IsRead = payload.IsEmpty,
            Since = _now,
        };
        // A full disk is no reason not to read.
        if (refusal is { } outcome && !(item.IsRead && outcome.Status == ProposalStatus.Dropped))
        {
            item.Fail(outcome);
        }
        else if (!item.IsRead && payload.Length > EntryBytesMax)
        {
            item.Fail(new ProposalOutcome(ProposalStatus.Dropped, Reason: TooLarge(payload.Length)));
        }

        if (!item.IsRead)
        {
            item.Number = ++_sequence;
            _waitingBytes += item.State == State.Failed ? 0 : payload.Length;
        }

        _parts.Outstanding.Add(item);
        _readsWaiting |= item.IsRead;
        _writesWaiting |= !item.IsRead;
        if (item.State == State.Failed)
        {
            AnswerSoon();
        }
    }

    private static string TooLarge(int bytes) => $"{bytes} bytes are more than {EntryBytesMax}";

    private static int EntryBytesMax => Wal.WalFormat.EntryBytesMax - SubBatch.HeaderBytes;

    /// <summary>Brings waiting writes on: into an entry of this leader's, or to the leader.</summary>
    private void DispatchWrites()
    {
        if (IsLeader)
        {
            while (TryProposeEntry())
            {
            }
        }
        else if (_core.Leader != 0 && (_writesWaiting || _retryForwards) && _options.Follower == FollowerMode.Forward)
        {
            _retryForwards = false;
            _writesWaiting = false;
            _waitingBytes = 0;
            _parts.Outstanding.Visit(this, static (driver, ref item) => driver.Forward(ref item));
        }
    }

    private bool Forward(ref OutstandingBatches.Item item)
    {
        if (item.IsRead || item.State != State.Waiting)
        {
            return true;
        }

        if (!_links.SendForward(_core.Leader, _core.Term, _parts.Start.Incarnation, item.Number, item.Payload.Span))
        {
            // In order or not at all: the rest waits too.
            _writesWaiting = true;
            return false;
        }

        item.Give();
        return true;
    }

    /// <summary>The leader did not take a batch. One that only this leader was given is answered; one that may be in a log
    /// from another time is offered again, unless it would be refused for ever.</summary>
    private void OnForwardRefused(ulong sequence, bool isForGood, string reason)
    {
        var outcome = new ProposalOutcome(ProposalStatus.Dropped, Reason: reason);
        _parts.Outstanding.Visit((this, sequence, isForGood, outcome), static (context, ref item) =>
        {
            if (item.IsRead || item.Number != context.sequence || item.State != State.Sent)
            {
                return item.IsRead || item.Number < context.sequence;
            }

            item.MayExist = item.WasGivenTwice;
            if (!item.MayExist)
            {
                item.Fail(context.outcome);
            }
            else if (context.isForGood)
            {
                item.GiveUp();
            }
            else
            {
                item.State = State.Waiting;
                context.Item1._writesWaiting = true;
            }

            return false;
        });
        AnswerSoon();
    }

    /// <summary>A peer's batch. Taken only in the term it is meant for: in another one its node sends all that it has again,
    /// in order, and this one might come before an older one.</summary>
    private void AcceptForward(in Event item)
    {
        if (!IsLeader || item.D != _core.Term)
        {
            item.Buffer?.Release();
            return;
        }

        // A node that has just been added may be ahead of what this leader has applied: it hears of it, and may ask again.
        // And what one node cannot apply none can: it must not get into the log.
        var flaw = item.Payload.Length > EntryBytesMax ? TooLarge(item.Payload.Length) : _parts.Machine.Check(item.Payload.Span);
        var refusal = flaw
            ?? (_membership.Contains(item.A) ? _parts.Machine.WriteRefusal : "the leader does not know this node as a member");
        if (refusal is not null)
        {
            _links.SendForwardRefused(item.A, item.B, item.C, flaw is null ? RefusedNow : RefusedForGood, refusal);
            item.Buffer?.Release();
            return;
        }

        _forwards.Add((new SubBatch(item.A, item.B, item.C, item.Payload), item.Buffer));
    }

    /// <summary>Makes one entry of what waits: this node's batches in order, then the forwarded ones.</summary>
    private bool TryProposeEntry()
    {
        if (_writesWaiting && _gathered.Count == 0)
        {
            _writesWaiting = false;
            _parts.Outstanding.Visit(this, static (driver, ref item) => driver.Gather(ref item));
        }

        var forwards = 0;
        while (forwards < _forwards.Count && _gatheredBytes < _options.EntryBytesSoft)
        {
            _gathered.Add(_forwards[forwards].Batch);
            _gatheredBytes += _forwards[forwards++].Batch.EncodedBytes;
        }

        if (_gathered.Count == 0)
        {
            // What waited may have been answered otherwise.
            _waitingBytes = 0;
            return false;
        }

        var taken = Propose();
        if (taken)
        {
            // Before anything else happens: losing the lead, for one, lets go of all forwards.
            for (var i = 0; i < forwards; i++)
            {
                _forwards[i].Buffer?.Release();
            }

            _forwards.RemoveRange(0, forwards);
        }

        _gathered.Clear();
        _gatheredBytes = 0;
        Drain();
        return taken && IsLeader && (_forwards.Count > 0 || _writesWaiting);
    }

    private bool Gather(ref OutstandingBatches.Item item)
    {
        if (item.IsRead || item.State != State.Waiting)
        {
            return true;
        }

        if (_gatheredBytes > 0 && _gatheredBytes + item.Payload.Length > _options.EntryBytesSoft)
        {
            _writesWaiting = true;
            return false;
        }

        var batch = new SubBatch(_parts.Start.NodeId, _parts.Start.Incarnation, item.Number, item.Payload);
        _gathered.Add(batch);
        _gatheredBytes += batch.EncodedBytes;
        return true;
    }

    private bool Propose()
    {
        if (_core.MayPropose(EntryKind.Normal) != ProposeResult.Accepted)
        {
            // Too much is uncommitted, or leadership is being handed over: a later turn tries again.
            _writesWaiting = true;
            return false;
        }

        var payload = _arena.Rent((int)_gatheredBytes, _core.Log.Last.Index + 1);
        var at = 0;
        foreach (ref readonly var batch in CollectionsMarshal.AsSpan(_gathered))
        {
            at += batch.Encode(payload.Span[at..]);
        }

        Invariant.Check(_core.Propose(EntryKind.Normal, payload, out _) == ProposeResult.Accepted);
        _waitingBytes = _writesWaiting ? _waitingBytes : 0;
        var last = LastOwn();
        if (last != 0)
        {
            _parts.Outstanding.Visit(last, static (last, ref item) =>
            {
                if (!item.IsRead && item.State == State.Waiting && item.Number <= last)
                {
                    item.Give();
                }

                return item.IsRead || item.Number < last;
            });
        }

        return true;
    }

    private ulong LastOwn()
    {
        var last = 0UL;
        foreach (ref readonly var batch in CollectionsMarshal.AsSpan(_gathered))
        {
            last = batch.Origin == _parts.Start.NodeId ? batch.Sequence : last;
        }

        return last;
    }

    /// <summary>The disk was full, and nobody has seen these entries: they are taken back and their batches refused.</summary>
    private void Withdraw(in PersistRequest request, string refusal)
    {
        var first = request.Entries.Span[0].Id.Index;
        var lowest = ulong.MaxValue;
        foreach (ref readonly var entry in request.Entries.Span)
        {
            var payload = entry.Payload;
            while (entry.Kind == EntryKind.Normal && SubBatch.TryRead(ref payload, out var batch))
            {
                lowest = batch.Origin == _parts.Start.NodeId ? Math.Min(lowest, batch.Sequence) : lowest;
            }
        }

        _core.Withdraw(first, request.Sequence);
        FailChanges(refusal);
        var outcome = new ProposalOutcome(ProposalStatus.Dropped, Reason: refusal);
        _parts.Outstanding.Visit((lowest, outcome), static (context, ref item) =>
        {
            if (!item.IsRead && item.Number >= context.lowest && item.State == State.Sent)
            {
                item.MayExist = false;
                item.Fail(context.outcome);
            }

            return true;
        });
        AnswerSoon();
    }

    /// <summary>Another leader, another term or another way: every batch without an answer is given again, in order.</summary>
    private void ResendAll()
    {
        foreach (var (_, buffer) in _forwards)
        {
            buffer?.Release();
        }

        _forwards.Clear();
        _readsPause = false;
        _parts.Outstanding.Visit(this, static (driver, ref item) =>
        {
            if (item.State == State.Sent)
            {
                item.State = State.Waiting;
            }

            driver._readsWaiting |= item.IsRead;
            driver._writesWaiting |= !item.IsRead;
            return true;
        });
    }
}
