using System.Net;
using System.Net.Sockets;
using KvNode.Server.Commands;
using KvNode.Server.Resp;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;

namespace KvNode.Server.Sessions;

/// <summary>Kestrel hands over each accepted connection here; all error policy of connections is here too.</summary>
internal sealed class RespConnection(SessionServices services, ClientList clients, ILogger log) : ConnectionHandler
{
    public override async Task OnConnectedAsync(ConnectionContext connection)
    {
        Interlocked.Increment(ref services.Stats.ConnectionsReceived);
        var session = Register(connection);
        if (session is null)
        {
            Interlocked.Increment(ref services.Stats.ConnectionsRejected);
            await RefuseAsync(connection);
            return;
        }

        try
        {
            await session.RunAsync();
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
    }

    private RespSession? Register(ConnectionContext connection)
    {
        if (clients.Count >= services.Options.ClientsMax)
        {
            return null;
        }

        var socket = connection.Features.Get<IConnectionSocketFeature>()?.Socket;
        KeepAlive(socket);
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

    private void KeepAlive(Socket? socket)
    {
        var seconds = (int)services.Options.KeepAlive.TotalSeconds;
        if (socket is null || seconds == 0)
        {
            return;
        }

        // As Redis sets it: first probe after the interval, then three more within another interval.
        socket.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.KeepAlive, true);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveTime, seconds);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveInterval, Math.Max(1, seconds / 3));
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveRetryCount, 3);
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
