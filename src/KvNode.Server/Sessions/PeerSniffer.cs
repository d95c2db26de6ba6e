using System.Buffers;
using System.IO.Pipelines;
using KvNode.Raft.Transport;

namespace KvNode.Server.Sessions;

/// <summary>Tells by a connection's first bytes whether a peer or a client speaks.</summary>
internal static class PeerSniffer
{
    /// <summary>
    /// Looks at what has been received and takes nothing of it. Waits only for as long as it may still be a peer. A pending
    /// read that is cancelled meanwhile stays cancelled for whoever reads next.
    /// </summary>
    public static async ValueTask<bool> IsPeerAsync(PipeReader input, CancellationToken cancellation)
    {
        while (true)
        {
            // What is there already counts, cancelled or not.
            if (!input.TryRead(out var result))
            {
                result = await input.ReadAsync(cancellation);
            }

            var received = result.Buffer;
            var isPeer = IsPeer(received);
            if (isPeer is not null || result.IsCompleted || result.IsCanceled)
            {
                // Nothing is marked as looked at, so that the next read has it at once.
                input.AdvanceTo(received.Start);
                if (result.IsCanceled)
                {
                    input.CancelPendingRead();
                }

                return isPeer == true;
            }

            input.AdvanceTo(received.Start, received.End);
        }
    }

    /// <summary>Null while it cannot be told.</summary>
    private static bool? IsPeer(ReadOnlySequence<byte> received)
    {
        Span<byte> front = stackalloc byte[PeerMagic.Bytes];
        front = front[..(int)Math.Min(received.Length, PeerMagic.Bytes)];
        received.Slice(0, front.Length).CopyTo(front);
        return !front.SequenceEqual(PeerMagic.Value[..front.Length]) ? false
            : front.Length == PeerMagic.Bytes ? true
            : null;
    }
}
