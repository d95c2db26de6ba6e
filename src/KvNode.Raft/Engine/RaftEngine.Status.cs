using KvNode.Native;

namespace KvNode.Raft.Engine;

// What others may know of the engine, and what the operator asks of this node alone.
public sealed partial class RaftEngine
{
    public EngineCapabilities Capabilities =>
        EngineCapabilities.DurableAck | EngineCapabilities.Learners | EngineCapabilities.JointChange
        | EngineCapabilities.TargetedTransfer | EngineCapabilities.LeaseRead
        | EngineCapabilities.FollowerLinearizableRead | EngineCapabilities.MembershipChange;

    public EngineMetrics Metrics
    {
        get
        {
            var log = _log?.Metrics ?? default;
            return new EngineMetrics(
                log.Entries,
                Interlocked.Read(ref _proposals),
                log.Syncs,
                log.SyncMicroseconds,
                log.SyncMicrosecondsMax,
                log.BytesWritten);
        }
    }

    public NodeStatus Status
    {
        get
        {
            var over = Volatile.Read(ref _disposed) + Volatile.Read(ref _failed) > 0;
            var view = _driver?.View ?? new DriverView();
            var role = over ? RaftRole.Shutdown : view.Role;
            return new NodeStatus
            {
                NodeId = _identity?.NodeId ?? 0,
                ClusterId = _identity?.ClusterId ?? 0,
                Role = role,
                Term = view.Term,
                LeaderAddress = over ? null : AddressOf(view.Leader),
                LeaderId = over ? 0 : view.Leader,
                LastContact = view.LastContact == long.MinValue ? null
                    : role == RaftRole.Leader ? TimeSpan.Zero
                    : TimeSpan.FromMicroseconds(Math.Max(0, Now() - view.LastContact) / 1000),
                IsRemoved = IsRemoved,
                CommitIndex = view.Commit,
                AppliedIndex = _apply?.AppliedIndex ?? 0,
                DurableIndex = _log?.DurableIndex ?? 0,
                LastLog = view.LastLog,
                FirstLogIndex = _log?.FirstIndex ?? 1,
                LastSnapshot = _snapshots.Latest,
                Members = Members(view, role),
                LogBytes = _log?.Bytes ?? 0,
                WriteRefusal = _persist?.Refusal ?? _machine?.WriteRefusal,
            };
        }
    }

    /// <inheritdoc/>
    public bool CanReadLocally(ReadLevel level)
    {
        if (level == ReadLevel.Local)
        {
            return true;
        }

        if (_driver is not { View: var view })
        {
            return false;
        }

        // In this order: what was committed when the clock still lay within the lease must be applied.
        return view.ServesAlone
            || (level == ReadLevel.LeaderLease && view.Commit <= AppliedIndex && Now() < view.LeaseEnd && view.Commit <= AppliedIndex);
    }

    private ulong AppliedIndex => _apply?.AppliedIndex ?? 0;

    /// <inheritdoc/>
    public ValueTask<ReadBarrier> ReadBarrierAsync(ReadLevel level)
    {
        if (CanReadLocally(level))
        {
            return ValueTask.FromResult(new ReadBarrier(new ProposalOutcome(ProposalStatus.Committed), _apply?.AppliedIndex ?? 0));
        }

        var barrier = new BarrierBatch();
        Propose(barrier);
        return new ValueTask<ReadBarrier>(barrier.WaitAsync(this));
    }

    /// <inheritdoc/>
    public ValueTask<AdminOutcome> SnapshotNowAsync() => RunAdminAsync(machine =>
    {
        using var reader = machine.OpenSnapshot();
        return _snapshots.Save(reader);
    });

    /// <inheritdoc/>
    public ValueTask<AdminOutcome> ShrinkLogAsync() => RunAdminAsync(machine =>
    {
        machine.Checkpoint();
        var done = new TaskCompletionSource<int>(TaskCreationOptions.RunContinuationsAsynchronously);
        _mailbox.Post(() => done.SetResult(_driver!.RetireAll()));
        return $"{done.Task.GetAwaiter().GetResult()} log segments given up, the log begins at {_log!.FirstIndex}";
    });

    private List<RaftMember> Members(DriverView view, RaftRole own)
    {
        var members = new List<RaftMember>();
        if (_driver is not { } driver)
        {
            return members;
        }

        var membership = driver.Membership;
        foreach (var (id, address) in membership.Addresses)
        {
            var isSelf = id == _identity!.NodeId;
            RaftRole? role = isSelf ? own
                : !_links!.IsConnected(id) ? null
                : id == view.Leader ? RaftRole.Leader
                : RaftRole.Follower;
            members.Add(new RaftMember(id, address, membership.IsVoter(id), role, isSelf ? DurableIndex : MatchOf(view, id)));
        }

        return members;
    }

    private ulong DurableIndex => _log?.DurableIndex ?? 0;

    private static ulong? MatchOf(DriverView view, ulong node)
    {
        foreach (var peer in view.Peers)
        {
            if (peer.Id == node)
            {
                return peer.Match;
            }
        }

        return null;
    }

    private async ValueTask<AdminOutcome> RunAdminAsync(Func<IReplicatedStateMachine, string> action)
    {
        if (_driver is null || _stopping)
        {
            return new AdminOutcome(false, "the node is not running");
        }

        if (!await _admin.WaitAsync(TimeSpan.Zero))
        {
            return new AdminOutcome(false, "another snapshot or log change is being made");
        }

        try
        {
            return new AdminOutcome(true, await Task.Run(() => action(_machine!)));
        }
        catch (SyncFailedException e)
        {
            // What a sync had promised may be gone, here as anywhere.
            Fail(e);
            throw;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return new AdminOutcome(false, e.Message);
        }
        finally
        {
            _ = _admin.Release();
        }
    }

    /// <summary>A read of nothing: its place among the reads is all that is wanted.</summary>
    private sealed class BarrierBatch : ProposalBatch
    {
        private readonly TaskCompletionSource<ProposalOutcome> _done = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public override ReadOnlyMemory<byte> Seal() => default;

        public override void Complete(ProposalOutcome outcome) => _done.SetResult(outcome);

        public async Task<ReadBarrier> WaitAsync(RaftEngine engine)
        {
            var outcome = await _done.Task;
            return new ReadBarrier(outcome, engine._apply?.AppliedIndex ?? 0);
        }
    }
}
