using System.Net;
using System.Net.Sockets;
using KvNode.Server.Sessions;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;

namespace KvNode.Server.Hosting;

/// <summary>Kestrel as a listener for RESP connections, without the rest of a web server.</summary>
internal sealed class Listener : IAsyncDisposable
{
    private const int BacklogMax = 1024;

    private readonly WebApplication _application;
    private readonly ClientList _clients;

    private Listener(WebApplication application, ClientList clients)
    {
        _application = application;
        _clients = clients;
    }

    /// <summary>Where it listens; the port is the real one when 0 was asked for.</summary>
    public string Address => _application.Services.GetRequiredService<IServer>()
        .Features.Get<IServerAddressesFeature>()!.Addresses.First().Replace("http://", "", StringComparison.Ordinal);

    /// <summary>Before anything is made on disk: a node that nobody can reach must not begin a cluster.</summary>
    /// <exception cref="ListenException">The address cannot be listened on.</exception>
    public static Task CheckFreeAsync(ListenAddress address) => OrSayWhereAsync(address, static endPoint =>
    {
        using var socket = new Socket(endPoint.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        if (endPoint.AddressFamily == AddressFamily.InterNetworkV6)
        {
            // As Kestrel does.
            socket.DualMode = true;
        }

        socket.Bind(endPoint);
        return Task.CompletedTask;
    });

    /// <param name="clientsMax">Connections served at one time; a few more may be open to be told so.</param>
    /// <param name="tls">Null: the port serves plain TCP. Else TLS only.</param>
    /// <exception cref="ListenException">The address cannot be listened on.</exception>
    public static async Task<Listener> StartAsync(
        ListenAddress address, RespConnection connections, ClientList clients, int clientsMax, TlsConnections? tls = null)
    {
        Listener? listener = null;
        await OrSayWhereAsync(address, async endPoint => listener = await ListenAsync(endPoint, connections, clients, clientsMax, tls));
        return listener!;
    }

    /// <summary>Accepts nobody any more, lets clients have the replies that are due, then closes them.</summary>
    public async Task StopAsync()
    {
        _clients.StopAll();
        using var grace = new CancellationTokenSource(Limits.StopGraceMilliseconds);
        await _application.StopAsync(grace.Token);
        await _application.DisposeAsync();
    }

    public async ValueTask DisposeAsync() => await StopAsync();

    private static async Task<Listener> ListenAsync(
        IPEndPoint endPoint, RespConnection connections, ClientList clients, int clientsMax, TlsConnections? tls)
    {
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore();
        builder.Services.AddSingleton<IHostLifetime, NoLifetime>();
        builder.Services.AddSingleton<IConnectionListenerFactory>(services => new AcceptGate(
            ActivatorUtilities.CreateInstance<SocketTransportFactory>(services), clientsMax + Limits.ConnectionsBesideClients));
        builder.Services.Configure<SocketTransportOptions>(options =>
        {
            // Runs a connection's code on the thread that polls its socket; see SocketEngine.
            options.UnsafePreferInlineScheduling = true;

            // Spares each receive a system call; an idle connection holds one 4 KiB block for it.
            options.WaitForDataBeforeAllocatingBuffer = false;
            options.Backlog = BacklogMax;
        });
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(endPoint, listen =>
        {
            if (tls is not null)
            {
                _ = listen.Use(next => connection => tls.OnConnectedAsync(connection, next));
            }

            listen.Run(connections.OnConnectedAsync);
        }));
        var application = builder.Build();
        await application.StartAsync();
        return new Listener(application, clients);
    }

    private static async Task OrSayWhereAsync(ListenAddress address, Func<IPEndPoint, Task> listen)
    {
        try
        {
            await listen(await address.ResolveAsync());
        }
        catch (Exception e) when (e is IOException or SocketException)
        {
            throw new ListenException(address.ToString(), e);
        }
    }

    /// <summary>The node decides when it stops, and listens to signals itself.</summary>
    private sealed class NoLifetime : IHostLifetime
    {
        public Task WaitForStartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }
}
