using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Threading.Channels;

namespace KvNode.Cluster.Tests.Harness;

/// <summary>
/// The address a node advertises: takes the other nodes' connections to it, passes bytes both ways and does to them what
/// the links say. Needs no rights beyond its own.
/// </summary>
internal sealed class FaultProxy : IDisposable
{
    private const int ChunkBytes = 16 * 1024;

    /// <summary>Chunks on their way in one direction; then the sender's socket fills up, as a network's buffers do.</summary>
    private const int ChunksMax = 64;

    private static readonly TimeSpan Poll = TimeSpan.FromMilliseconds(5);

    private readonly Socket _listener = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
    private readonly CancellationTokenSource _end = new();
    private readonly int _node;
    private readonly LinkRules _links;
    private readonly Func<int, int, int?> _callerOf;
    private readonly List<Pipe> _pipes = [];
    private volatile int _target;

    /// <param name="node">The node behind this proxy.</param>
    /// <param name="callerOf">The node that holds this port of a connection to that port; null when it is none.</param>
    public FaultProxy(int node, LinkRules links, Func<int, int, int?> callerOf)
    {
        _node = node;
        _links = links;
        _callerOf = callerOf;
        _listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        _listener.Listen(256);
        Port = ((IPEndPoint)_listener.LocalEndPoint!).Port;
        _ = Task.Run(AcceptAsync);
    }

    public int Port { get; }

    /// <summary>Where the node listens.</summary>
    public int Target
    {
        get => _target;
        set => _target = value;
    }

    /// <summary>Connections taken whose caller could not be found: they pass unharmed.</summary>
    public int Strangers { get; private set; }

    /// <summary>Breaks every connection with that node; both ends see a reset.</summary>
    public void Break(int caller)
    {
        Pipe[] pipes;
        lock (_pipes)
        {
            pipes = [.. _pipes.Where(pipe => pipe.Caller == caller)];
        }

        Array.ForEach(pipes, static pipe => pipe.Break());
    }

    public void Dispose()
    {
        _end.Cancel();
        _listener.Dispose();
        lock (_pipes)
        {
            _pipes.ForEach(static pipe => pipe.Break());
        }
    }

    private async Task AcceptAsync()
    {
        while (!_end.IsCancellationRequested)
        {
            try
            {
                var caller = await _listener.AcceptAsync(_end.Token);
                _ = Task.Run(() => ServeAsync(caller));
            }
            catch (Exception failure) when (failure is OperationCanceledException or SocketException or ObjectDisposedException)
            {
                // A caller that was gone again; or the end.
            }
        }
    }

    private async Task ServeAsync(Socket caller)
    {
        using var near = caller;
        using var far = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        near.NoDelay = true;
        var from = _callerOf(((IPEndPoint)near.RemoteEndPoint!).Port, Port);
        Strangers += from is null ? 1 : 0;
        var pipe = new Pipe(from, near, far);
        lock (_pipes)
        {
            _pipes.Add(pipe);
        }

        try
        {
            // A connection into a partition hangs like one into a network that drops it.
            var (there, back) = from is { } index ? (_links[index, _node], _links[_node, index]) : (new Link(), new Link());
            while (there.IsCut || back.IsCut)
            {
                await Task.Delay(Poll, _end.Token);
            }

            await far.ConnectAsync(new IPEndPoint(IPAddress.Loopback, Target), _end.Token);
            await Task.WhenAll(PumpAsync(pipe, near, far, there), PumpAsync(pipe, far, near, back));
        }
        catch (Exception failure) when (failure is SocketException or OperationCanceledException or ObjectDisposedException)
        {
            pipe.Break();
        }
        finally
        {
            lock (_pipes)
            {
                _ = _pipes.Remove(pipe);
            }
        }
    }

    /// <summary>
    /// Carries one direction until its source ends. What the source sent before it broke still arrives, as it mostly does
    /// without a proxy; then both ends see a reset.
    /// </summary>
    private async Task PumpAsync(Pipe pipe, Socket source, Socket target, Link link)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(_end.Token, pipe.Broken);
        var chunks = Channel.CreateBounded<(byte[] Bytes, long Due)>(ChunksMax);
        var writing = WriteAsync(chunks.Reader, target, link, stop);
        var isReset = false;
        try
        {
            var buffer = new byte[ChunkBytes];
            int count;
            while ((count = await source.ReceiveAsync(buffer.AsMemory(), stop.Token)) > 0)
            {
                var due = Stopwatch.GetTimestamp() + (link.DelayMilliseconds * Stopwatch.Frequency / 1000);
                await chunks.Writer.WriteAsync((buffer[..count], due), stop.Token);
            }
        }
        catch (Exception failure) when (failure is SocketException or ObjectDisposedException)
        {
            isReset = true;
        }
        catch (OperationCanceledException)
        {
            // The target is gone, and says so in the other direction; or everything ends.
        }

        chunks.Writer.Complete();
        await writing;
        if (isReset)
        {
            pipe.Break();
        }
    }

    /// <param name="stop">Cancelled when nothing more can be written.</param>
    private static async Task WriteAsync(
        ChannelReader<(byte[] Bytes, long Due)> chunks, Socket target, Link link, CancellationTokenSource stop)
    {
        try
        {
            await foreach (var (bytes, due) in chunks.ReadAllAsync(stop.Token))
            {
                while (link.IsCut || Stopwatch.GetTimestamp() < due)
                {
                    await Task.Delay(Poll, stop.Token);
                }

                for (var sent = 0; sent < bytes.Length;)
                {
                    sent += await target.SendAsync(bytes.AsMemory(sent), stop.Token);
                }

                if (link.BytesPerSecond > 0)
                {
                    await Task.Delay(TimeSpan.FromSeconds((double)bytes.Length / link.BytesPerSecond), stop.Token);
                }
            }

            target.Shutdown(SocketShutdown.Send);
        }
        catch (Exception failure) when (failure is SocketException or OperationCanceledException or ObjectDisposedException)
        {
            await stop.CancelAsync();
        }
    }

    /// <summary>One connection through the proxy.</summary>
    private sealed class Pipe(int? caller, Socket near, Socket far)
    {
        private readonly CancellationTokenSource _broken = new();

        public int? Caller { get; } = caller;

        public CancellationToken Broken => _broken.Token;

        public void Break()
        {
            Reset(near);
            Reset(far);
            _broken.Cancel();
        }

        private static void Reset(Socket socket)
        {
            try
            {
                socket.LingerState = new LingerOption(true, 0);
            }
            catch (Exception failure) when (failure is SocketException or ObjectDisposedException)
            {
                // Closed already.
            }

            socket.Dispose();
        }
    }
}
