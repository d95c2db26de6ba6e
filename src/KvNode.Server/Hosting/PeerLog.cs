using System.Globalization;
using KvNode.Raft.Transport;

namespace KvNode.Server.Hosting;

/// <summary>What the transport between nodes has to say, as log lines.</summary>
internal static class PeerLog
{
    public static Action<PeerNotice> To(ILogger log) => notice =>
    {
        var peer = notice.Peer.ToString("x16", CultureInfo.InvariantCulture);
        if (notice is { Kind: PeerNoticeKind.Connected or PeerNoticeKind.Disconnected, Suppressed: > 0 })
        {
            Log.PeersFlap(log, peer, notice.Address, notice.Suppressed);
        }

        switch (notice.Kind)
        {
            case PeerNoticeKind.LoopbackOnly:
                Log.PeersOnLoopbackOnly(log);
                break;
            case PeerNoticeKind.Refused:
                Log.PeerRefused(log, notice.Address, notice.Detail, notice.Suppressed);
                break;
            case PeerNoticeKind.CallRefused:
                Log.PeerCallRefused(log, peer, notice.Address, notice.Detail, notice.Suppressed);
                break;
            case PeerNoticeKind.Unreachable:
                Log.PeerUnreachable(log, peer, notice.Address, notice.Detail);
                break;
            case PeerNoticeKind.Connected:
                Log.PeerConnected(log, peer, notice.Address);
                break;
            default:
                Log.PeerDisconnected(log, peer, notice.Address, notice.Detail);
                break;
        }
    };
}
