namespace KvNode.Raft.Engine;

// Who turns the driver. The raft thread owns it: it alone waits for the clock and for clients' batches, which gather while it
// wakes up. But what comes from a peer or from the disk is dealt with by the thread that brought it, if no other has the turn:
// on the way of a write or a read through a follower that is one hop instead of two, and a hop costs more than the turn.
public sealed partial class RaftEngine
{
    private Action _turn = static () => { };
    private Action _turnHere = static () => { };
    private Func<bool> _wantsBatches = static () => false;
    private Func<int> _waitMilliseconds = static () => 0;
    private Func<bool> _hasWrites = static () => false;

    private void Loop()
    {
        var wal = StartThread("wal", _persist!.Run);
        var apply = StartThread("apply", _apply!.Run);
        var driver = _driver!;
        if (driver.IsAlone)
        {
            _core!.Campaign();
        }
        else
        {
            _ = _started.TrySetResult();
        }

        _keeping = KeepMembershipAsync();
        _mailbox.Open();
        while (!_stopping)
        {
            _mailbox.TakeTurns(_turn, _wantsBatches);
            if (!_started.Task.IsCompleted && (driver.View is { ServesAlone: true, Role: RaftRole.Leader } || _persist.Refusal is not null || !driver.IsAlone))
            {
                _ = _started.TrySetResult();
            }

            _mailbox.Wait(_waitMilliseconds, _wantsBatches);
        }

        if (_mailbox.TryTakeLastTurn(() => Volatile.Read(ref _failed) != 0))
        {
            _persist.Close();
            wal.Join();
            driver.Turn(Now());
            _apply.Close();
            apply.Join();
            DropRest();
        }
    }

    /// <summary>The caller has added to the mailbox and takes the turn itself; it never waits for a disk in it.</summary>
    /// <param name="mustLeave">As for <see cref="Mailbox.TakeTurns"/>.</param>
    private void TakeTurnsHere(Func<bool>? mustLeave = null)
    {
        // Alone, the raft thread writes within the turn and waits for nobody.
        if (_stopping || Volatile.Read(ref _driver) is not { IsAlone: false })
        {
            _mailbox.Wake();
            return;
        }

        try
        {
            _mailbox.TakeTurns(_turnHere, _wantsBatches, mustLeave);
        }
        catch (Exception e)
        {
            Fail(e);
        }
    }

    private void OnPersisted(ulong sequence)
    {
        _mailbox.Add(new Event { Kind = EventKind.Persisted, A = sequence });
        if (_persist!.HasWork)
        {
            // The next write must not wait for a turn.
            _mailbox.Wake();
        }
        else
        {
            TakeTurnsHere(_hasWrites);
        }
    }

    private Thread StartThread(string name, Action run)
    {
        var thread = new Thread(() =>
        {
            try
            {
                run();
            }
            catch (Exception e)
            {
                Fail(e);
            }
        })
        { Name = name, IsBackground = true };
        thread.Start();
        return thread;
    }

    private void DropRest()
    {
        var dropped = new ProposalOutcome(ProposalStatus.Dropped, Reason: "the node is shutting down");
        while (_outstanding.TryTake(out var item))
        {
            item.Batch.Complete(item.State switch
            {
                OutstandingBatches.State.Failed => item.Outcome,
                _ when item.MayExist => new ProposalOutcome(ProposalStatus.Unknown),
                _ => dropped,
            });
        }

        while (_mailbox.TryTakeBatch(out var batch))
        {
            _ = batch!.Seal();
            batch.Complete(dropped);
        }
    }
}
