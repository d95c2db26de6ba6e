using System.Buffers.Binary;
using KvNode.Raft.Snapshots;
using KvNode.Raft.Transport;

namespace KvNode.Raft.Engine;

/// <summary>The receiving half: whose offer is taken, and how what was received becomes the state.</summary>
internal sealed partial class SnapshotTransfers
{
    private Action? _install;

    /// <summary>A peer offers a snapshot. Null: not wanted now. I/O thread.</summary>
    public ISnapshotReceiver? Offer(ulong from, SnapshotOffer offer)
    {
        // No leader has entries of a term after its own.
        if (offer.Position.Term > offer.Term)
        {
            return null;
        }

        lock (_gate)
        {
            if (_isStopped)
            {
                return null;
            }

            if (_incoming is { } present)
            {
                if (present.IsOf(from, offer) && present.TryReopen())
                {
                    return present;
                }

                // A leader that hangs in the middle of its transfer must not keep its successor's out.
                var isOvertaken = from != present.From && offer.Term > present.Offer.Term;
                if (!(isOvertaken ? present.TryDisplace() : present.TryGiveUp()))
                {
                    return null;
                }
            }

            // Should the file not be made, nothing is on its way.
            _incoming = null;
            var path = Path.Combine(directory, $"{IncomingPrefix}{from:x}-{offer.Id:x}");
            return _incoming = new IncomingSnapshot(this, from, offer, path);
        }
    }

    /// <inheritdoc/>
    public Action TakeInstall()
    {
        var install = _install;
        Invariant.Check(install is not null);
        _install = null;
        return install;
    }

    private Task<SnapshotVerdict> BeginInstallAsync(IncomingSnapshot incoming)
    {
        lock (_gate)
        {
            return _isStopped ? Task.FromResult(SnapshotVerdict.Refused) : Begin(Task.Run(() => InstallAsync(incoming)));
        }
    }

    private async Task<SnapshotVerdict> InstallAsync(IncomingSnapshot incoming)
    {
        var offer = incoming.Offer;
        var bytes = offer.Meta;
        if (bytes.Length < 16)
        {
            return SnapshotVerdict.Damaged;
        }

        EngineState state;
        try
        {
            state = EngineState.Decode(bytes.Span[16..]);
        }
        catch (FormatException)
        {
            return SnapshotVerdict.Damaged;
        }

        var members = new List<string>(state.Membership.Addresses.Values);
        var meta = new SnapshotMeta(
            offer.Position, BinaryPrimitives.ReadInt64LittleEndian(bytes.Span), members, bytes[16..]);
        var writer = machine.CreateRestore(meta);
        try
        {
            if (Feed(incoming.Path, writer) != BinaryPrimitives.ReadUInt64LittleEndian(bytes.Span[8..]))
            {
                return SnapshotVerdict.Damaged;
            }

            writer.Complete();
            return await OfferToCoreAsync(incoming, meta, state, writer) ? SnapshotVerdict.Installed : SnapshotVerdict.Refused;
        }
        finally
        {
            writer.Dispose();
        }
    }

    /// <summary>True once the state and the log have taken it over; false when it is not needed any more.</summary>
    private async Task<bool> OfferToCoreAsync(
        IncomingSnapshot incoming, SnapshotMeta meta, EngineState state, ISnapshotWriter writer)
    {
        var done = new TaskCompletionSource<bool>(TaskCreationOptions.RunContinuationsAsynchronously);
        var taken = 0;
        mailbox.Post(() =>
        {
            _install = () =>
            {
                try
                {
                    if (Interlocked.Exchange(ref taken, 1) == 1)
                    {
                        throw new OperationCanceledException("this node stops"); // Before the log is told.
                    }

                    apply.Replace(meta.Position.Index, state, writer.Commit);
                    note($"took over a snapshot of entry {meta.Position.Index} from node {incoming.From:x16}");
                    done.SetResult(true);
                }
                finally
                {
                    _ = done.TrySetCanceled(); // Unless it is done.
                }
            };
            if (!_core!.OnSnapshotReceived(incoming.From, incoming.Offer.Term, meta.Position, state.Membership))
            {
                _install = null;
                done.SetResult(false);
            }

            _driver!.Drain();
        });
        try
        {
            return await done.Task.WaitAsync(_stopping.Token);
        }
        catch (OperationCanceledException) when (Interlocked.Exchange(ref taken, 1) == 1)
        {
            return await done.Task; // It was begun: the writer is needed until it ends.
        }
    }

    /// <returns>The checksum of what was fed, as <see cref="EncodeMeta"/> has it.</returns>
    private ulong Feed(string path, ISnapshotWriter writer)
    {
        using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0);
        var buffer = new byte[CopyBytes];
        var crc = Crc64.Start;
        int count;
        while ((count = file.Read(buffer)) > 0)
        {
            _stopping.Token.ThrowIfCancellationRequested();
            crc = Crc64.Append(crc, buffer.AsSpan(0, count));
            writer.Write(buffer.AsSpan(0, count));
        }

        return crc;
    }

    private void Forget(IncomingSnapshot incoming)
    {
        lock (_gate)
        {
            if (ReferenceEquals(_incoming, incoming))
            {
                _incoming = null;
            }
        }

        File.Delete(incoming.Path);
    }

    private void Fail(Exception e) => fail(e);

    /// <summary>One snapshot on its way in; the file outlives a connection, so that a transfer can go on.</summary>
    private sealed class IncomingSnapshot(SnapshotTransfers owner, ulong from, SnapshotOffer offer, string path) : ISnapshotReceiver
    {
        private readonly Microsoft.Win32.SafeHandles.SafeFileHandle _file =
            File.OpenHandle(path, FileMode.Create, FileAccess.ReadWrite, FileShare.ReadWrite, FileOptions.None);

        private readonly CancellationTokenSource _displaced = new();

        // 0: a connection is writing; 1: none is; 2: complete or given up; 3: given up, and the connection is still to let go.
        private int _state;
        private long _have;

        public ulong From => from;

        public SnapshotOffer Offer => offer;

        public string Path => path;

        public long HaveBytes => Interlocked.Read(ref _have);

        public CancellationToken Displaced => _displaced.Token;

        /// <summary>Whether these are the very bytes that are on their way: the same id on another offer is none of ours.</summary>
        public bool IsOf(ulong sender, SnapshotOffer other) =>
            sender == from && other with { Meta = default } == offer with { Meta = default }
            && other.Meta.Span.SequenceEqual(offer.Meta.Span);

        public bool TryReopen() => Interlocked.CompareExchange(ref _state, 0, 1) == 1;

        public bool TryGiveUp()
        {
            if (Interlocked.CompareExchange(ref _state, 2, 1) != 1)
            {
                return false;
            }

            Free();
            return true;
        }

        /// <summary>As <see cref="TryGiveUp"/>, and ends the connection that is writing.</summary>
        public bool TryDisplace()
        {
            if (Interlocked.CompareExchange(ref _state, 3, 0) != 0)
            {
                return TryGiveUp();
            }

            // Not on this thread: who writes goes on there.
            _ = _displaced.CancelAsync();
            return true;
        }

        public async ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> chunk, CancellationToken cancellation)
        {
            await RandomAccess.WriteAsync(_file, chunk, offset, cancellation);
            _ = Interlocked.Exchange(ref _have, offset + chunk.Length);
        }

        public async ValueTask<SnapshotVerdict> CompleteAsync(CancellationToken cancellation)
        {
            if (Interlocked.CompareExchange(ref _state, 2, 0) != 0)
            {
                return SnapshotVerdict.Refused;
            }

            try
            {
                return await owner.BeginInstallAsync(this);
            }
            catch (Native.SyncFailedException e)
            {
                owner.Fail(e);
                throw;
            }
            catch (IOException)
            {
                return SnapshotVerdict.Damaged;
            }
            finally
            {
                _file.Dispose();
                owner.Forget(this);
            }
        }

        public ValueTask DisposeAsync()
        {
            if (Interlocked.CompareExchange(ref _state, 1, 0) == 3)
            {
                Free();
            }

            return ValueTask.CompletedTask;
        }

        private void Free()
        {
            _file.Dispose();
            try
            {
                File.Delete(path);
            }
            catch (IOException)
            {
                // The next start deletes what is left.
            }
        }
    }
}
