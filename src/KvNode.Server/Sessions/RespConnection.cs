using System.Net;
using System.Net.Sockets;
using KvNode.Raft.Transport;
using KvNode.Server.Commands;
using KvNode.Server.Resp;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;

namespace KvNode.Server.Sessions;

/// <summary>Kestrel hands over each accepted connection here; all error policy of connections is here too.</summary>
/// <param name="peers">Takes over the connections of other nodes; null when there are none, and all are clients'.</param>
internal sealed class RespConnection(SessionServices services, ClientList clients, ILogger log, IPeerAcceptor? peers = null)
    : ConnectionHandler
{
    /// <summary>A peer that vanished is noticed after this and <see cref="PeerProbes"/> seconds more.</summary>
    private const int PeerKeepAliveSeconds = 5;

    private const int PeerProbes = 3;

    // A peer that meets a defect comes back at once, and meets it again.
    private readonly Sparingly _defects = new(TimeSpan.FromSeconds(10), TimeProvider.System);

    public override async Task OnConnectedAsync(ConnectionContext connection)
    {
        Interlocked.Increment(ref services.Stats.ConnectionsReceived);
        var session = Register(connection);
        if (session is null)
        {
            await RefuseUnlessPeerAsync(connection);
            return;
        }

        var isPeer = false;
        try
        {
            isPeer = peers is not null && await PeerSniffer.IsPeerAsync(connection.Transport.Input, CancellationToken.None);
            if (!isPeer)
            {
                await session.RunAsync();
            }
        }
        catch (Exception e) when (e is IOException or OperationCanceledException or SocketException)
        {
            // Gone without a goodbye, or cut off: ordinary in a client's life.
        }
        catch (Exception e)
        {
            // Ours to mend: this client pays for it, the others do not.
            Log.ClientFailed(log, e, session.Info.RemoteAddress);
        }
        finally
        {
            clients.Remove(session);
            session.Dispose();
        }

        if (isPeer)
        {
            await ServePeerAsync(connection);
        }
    }

    /// <summary>Serves another node until the connection ends or this node stops listening.</summary>
    private async Task ServePeerAsync(ConnectionContext connection)
    {
        var channel = new AcceptedPeer(connection);
        KeepAlive(connection.Features.Get<IConnectionSocketFeature>()?.Socket, PeerKeepAliveSeconds, interval: 1, PeerProbes);
        var stopping = connection.Features.Get<IConnectionLifetimeNotificationFeature>()?.ConnectionClosedRequested ?? default;
        await using var registration = stopping.UnsafeRegister(static channel => ((AcceptedPeer)channel!).Close(), channel);
        try
        {
            await peers!.ServeAsync(channel);
        }
        catch (Exception e)
        {
            // The transport deals with what is wrong in the world: this is wrong in here.
            if (_defects.TrySay(out var suppressed))
            {
                Log.PeerFailed(log, e, Text(connection.RemoteEndPoint), suppressed);
            }
        }
    }

    /// <summary>
    /// However many clients there are, other nodes get in. A client that says nothing at first is told a little later, or as
    /// soon as others need its room.
    /// </summary>
    private async Task RefuseUnlessPeerAsync(ConnectionContext connection)
    {
        if (peers is not null && await SpeaksAsPeerAsync(connection))
        {
            await ServePeerAsync(connection);
            return;
        }

        Interlocked.Increment(ref services.Stats.ConnectionsRejected);
        await RefuseAsync(connection);
    }

    private static async ValueTask<bool> SpeaksAsPeerAsync(ConnectionContext connection)
    {
        using var time = new CancellationTokenSource(Limits.PeerHelloMilliseconds);
        using var stay = connection.Features.Get<Newcomers>()?.Enter(time);
        try
        {
            return await PeerSniffer.IsPeerAsync(connection.Transport.Input, time.Token);
        }
        catch (Exception e) when (e is IOException or OperationCanceledException or SocketException)
        {
            // Mute for too long, or gone.
            return false;
        }
    }

    private RespSession? Register(ConnectionContext connection)
    {
        if (clients.Count >= services.Options.ClientsMax)
        {
            return null;
        }

        var socket = connection.Features.Get<IConnectionSocketFeature>()?.Socket;
        var keepAlive = (int)services.Options.KeepAlive.TotalSeconds;

        // As Redis sets it: first probe after the interval, then three more within another interval.
        KeepAlive(socket, keepAlive, Math.Max(1, keepAlive / 3), probes: 3);
        var now = Environment.TickCount64;
        var info = new ClientInfo
        {
            Id = clients.NextId(),
            RemoteAddress = Text(connection.RemoteEndPoint),
            LocalAddress = Text(connection.LocalEndPoint),
            FileDescriptor = socket is null ? -1 : (int)socket.Handle,
            ConnectedAtMs = now,
            LastActiveMs = now,
        };
        var session = new RespSession(services, connection.Transport, info, reason =>
        {
            Log.ClientClosed(log, info.RemoteAddress, reason);
            connection.Abort(new ConnectionAbortedException(reason));
        }, connection.ConnectionClosed);
        clients.Add(session);
        return session;
    }

    private static void KeepAlive(Socket? socket, int seconds, int interval, int probes)
    {
        if (socket is null || seconds == 0)
        {
            return;
        }

        socket.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.KeepAlive, true);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveTime, seconds);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveInterval, interval);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveRetryCount, probes);
    }

    private static async Task RefuseAsync(ConnectionContext connection)
    {
        try
        {
            using var reply = new RespWriter();
            reply.Error(RespError.MaxClients);
            await connection.Transport.Output.WriteAsync(reply.Written.ToArray());
        }
        catch (IOException)
        {
            // It did not wait for the answer.
        }
    }

    private static string Text(EndPoint? endPoint) => endPoint?.ToString() ?? "?:0";
}
